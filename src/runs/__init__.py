"""The run directory: its record, state, metrics and summary."""
