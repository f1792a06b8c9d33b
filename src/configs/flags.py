"""A configuration as the words of a command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints


def flags(config: Any, *, without: Sequence[str] = (), within: str = "") -> list[str]:
    """Return the flags that make `type(config)()` what `config` is: ['--optim.lr', '0.01', '--no-flip'].

    Args:
        config: a dataclass whose fields all have defaults; nested ones have their own flags.
        without: fields whose flags are left out.
        within: what stands before the names, as in `optim.`.
    """
    return _between(type(config)(), config, without, within)


def _between(before: Any, after: Any, without: Sequence[str], within: str) -> list[str]:
    found: list[str] = []
    hints = get_type_hints(type(after))
    for field in fields(after):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if old == new or field.name in without:
            continue
        name = field.name.replace("_", "-")
        if is_dataclass(new) and type(new) is type(old):
            found += _between(old, new, (), f"{within}{name}.")
        elif hints[field.name] is bool:
            found.append(f"--{within}{'' if new else 'no-'}{name}")
        else:
            found.append(f"--{within}{name}")
            found += map(str, new) if isinstance(new, tuple) else [str(new)]
    return found
