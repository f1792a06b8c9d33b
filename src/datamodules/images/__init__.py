"""Images from folders and tables."""
