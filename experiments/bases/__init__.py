"""What families of experiments share: fields and data, without an experiment that runs."""
