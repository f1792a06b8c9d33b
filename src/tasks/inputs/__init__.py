"""What goes into a network."""
