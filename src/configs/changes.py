"""Fields changed from Python, checked as flags are on the command line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from src.configs.errors import InputError, did_you_mean

Config = TypeVar("Config")


def with_fields(config: Config, changes: Mapping[str, Any], *, options: Iterable[str] = (), within: str = "") -> Config:
    """Return a dataclass with changed fields; `optim.lr` is the field `lr` of the dataclass in `optim`.

    Args:
        config: the dataclass.
        changes: name -> value.
        options: other names that a typo may have meant.
        within: what stands before the names in an error, as in `optim.`.

    Raises:
        InputError: there is no such field, or the value is none that it can have.
    """
    of: Any = config
    hints = get_type_hints(type(of))
    known = [field.name for field in fields(of)]
    changed: dict[str, Any] = {}
    below: dict[str, dict[str, Any]] = defaultdict(dict)
    for name, value in changes.items():
        top, _, rest = name.partition(".")
        if top not in known or (rest and not is_dataclass(getattr(of, top))):
            names = [*known, *(f"{one}." for one in known if is_dataclass(getattr(of, one))), *options]
            raise InputError(f"{within}{name}: {type(of).__name__} has no such field.{did_you_mean(name, names)}")
        if rest:
            below[top][rest] = value
        else:
            changed[name] = _checked(f"{within}{name}", hints[name], value)
    for top, inner in below.items():
        changed[top] = with_fields(changed.get(top, getattr(of, top)), inner, within=f"{within}{top}.")
    return replace(of, **changed)


def _checked(name: str, hint: Any, value: Any) -> Any:
    """Return a value as the field has it: numbers of NumPy as Python's, a string as a path, a list as a tuple."""
    value = value.item() if hasattr(value, "item") else value
    for kind in get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,):
        if kind in (None, NoneType) and value is None:
            return None
        if get_origin(kind) is Literal and value in get_args(kind):
            return value
        if get_origin(kind) is tuple and isinstance(value, list | tuple):
            return tuple(_checked(name, get_args(kind)[0], item) for item in value)
        if kind is Path and isinstance(value, str | Path):
            return Path(value)
        if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if isinstance(kind, type) and isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
            return value
    shown = getattr(hint, "__name__", None) or str(hint)
    choices = ", ".join(map(repr, get_args(hint))) if get_origin(hint) is Literal else shown.replace("typing.", "")
    raise InputError(f"{name}={value!r}: expected {'one of ' if get_origin(hint) is Literal else ''}{choices}.")
