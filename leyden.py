"""Leyden from Python: `import leyden`. See `src/api.py`."""

from src.api import InputError, Run, compare, load, run

__all__ = ["InputError", "Run", "compare", "load", "run"]
