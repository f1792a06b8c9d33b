"""Leyden: the parts that experiments are built from. Read `src/experiment.py` first."""
