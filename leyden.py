"""Leyden from Python: `import leyden`. See `src/api.py`."""

from src.api import InputError, Run, columns, compare, load, run

__all__ = ["InputError", "Run", "columns", "compare", "load", "run"]
