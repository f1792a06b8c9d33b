"""Leyden from Python: `import leyden`. See `src/api.py`."""

from src.api import Export, InputError, Run, columns, compare, load, run

__all__ = ["Export", "InputError", "Run", "columns", "compare", "load", "run"]
