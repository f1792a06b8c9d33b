"""Values that experiments hold, and the data's spec; nothing heavy is imported."""
