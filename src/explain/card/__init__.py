"""The model card of a run: what it is, how good, and what it was not tested on, in Hugging Face's form."""
