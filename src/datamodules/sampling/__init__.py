"""Which examples make up a batch, and in which order."""
