"""What a field is without its effect, as an ablation leaves it out: no flip, no warm-up, no averaging."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from src.configs.changes import with_fields
from src.configs.errors import InputError

SHARED = ("seed", "monitor", "mode")
"""Fields that all runs of an ablation have in common: they are compared by them."""


def left_out(config: Any, factors: tuple[str, ...]) -> Mapping[str, Any]:
    """Return the fields that an ablation changes, and the value that each has without its effect.

    Args:
        config: the dataclass that has the fields, the full recipe.
        factors: names of fields, nested ones with a dot; `name=value` names the value too.

    Raises:
        InputError: no such field, a field that cannot be left out, or one that is left out already.
    """
    if not factors:
        raise InputError("--without: name the fields to leave out, as in --without label_smoothing optim.warmup.")
    found: dict[str, Any] = {}
    for factor in factors:
        name, given, text = factor.partition("=")
        if name in found:
            raise InputError(f"--without {name}: named twice.")
        if name in SHARED:
            raise InputError(f"--without {name}: all runs need the same {name}, since they are compared by it.")
        found[name] = from_text(config, name, text) if given else neutral(config, name)
        if with_fields(config, {name: found[name]}) == config:
            raise InputError(
                f"--without {factor}: {name} is {found[name]!r} in {type(config).__name__} as it is, so there is "
                f"nothing to leave out. Set it in the recipe, or name another value: --without {name}=VALUE."
            )
    return found


def neutral(config: Any, name: str) -> Any:
    """Return the value with which a field has no effect, by its type.

    It is None where the field may be None, False for a switch, "none" where that is a choice, and 0 for a number; 1
    where a number is 1 unless somebody sets it, as a factor or a count of batches is.

    Raises:
        InputError: there is no such field, or no such value.
    """
    owner, last = _owner(config, name)
    if is_dataclass(inner := getattr(owner, last)):
        parts = ", ".join(f"{name}.{field.name}" for field in fields(inner))
        raise InputError(f"--without {name}: that is several fields. Name some of them: {parts}.")
    hint = get_type_hints(type(owner))[last]
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    choices = [value for kind in kinds if get_origin(kind) is Literal for value in get_args(kind)]
    first = _first_default(type(owner), last)
    if NoneType in kinds:
        value = None
    elif bool in kinds:
        value = False
    elif "none" in choices or first == "none":
        value = "none"
    elif float in kinds or int in kinds:
        value = (float if float in kinds else int)(first == 1)
    else:
        raise InputError(f"--without {name}: no value of it means none. Name one: --without {name}=VALUE.")
    try:
        with_fields(config, {name: value})
    except InputError as error:
        raise InputError(f"--without {name}: {error} Name a value: --without {name}=VALUE.") from error
    return value


def from_text(config: Any, name: str, text: str) -> Any:
    """Return the value that a text means to a field: `0.1`, `none`, `None`, `True`, `(1, 1)`.

    Raises:
        InputError: there is no such field, or it cannot have that value.
    """
    _owner(config, name)
    values: list[Any] = [text]
    try:
        literal = ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
        values.insert(0 if literal is None else 1, literal)
    except (ValueError, SyntaxError):
        pass
    errors: list[InputError] = []
    for value in values:
        try:
            owner, last = _owner(with_fields(config, {name: value}), name)
            return getattr(owner, last)
        except InputError as error:
            errors.append(error)
    raise errors[-1]


def _owner(config: Any, name: str) -> tuple[Any, str]:
    """Return the dataclass that has a field, and the field's name in it; a typo is an InputError with a hint."""
    *above, last = name.split(".")
    owner = config
    for part in above:
        owner = getattr(owner, part, None)
    if not is_dataclass(owner) or last not in {field.name for field in fields(owner)}:
        try:
            with_fields(config, {name: None})
        except InputError as error:
            raise InputError(f"--without {error}") from error
    return owner, last


def _first_default(kind: type, name: str) -> Any:
    """Return a field's default in the class that introduces it, which has the fewest opinions on it."""
    bases = [base for base in reversed(kind.__mro__) if is_dataclass(base)]
    return next(field.default for base in bases for field in fields(base) if field.name == name)
