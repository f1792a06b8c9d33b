"""Leyden: the rooms that experiments are built from. Read `src/experiment.py` first."""
