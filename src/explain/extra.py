"""The libraries of the extra `explain`."""

from __future__ import annotations

import importlib
from typing import Any

from src.configs.errors import InputError


def library(name: str) -> Any:
    """Return a module, such as 'captum.attr'; raise an InputError that says how to install it where it is not there."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        library = name.partition(".")[0]
        raise InputError(f"{library} cannot be imported ({error}). Install it: pip install -e '.[explain]'") from error
