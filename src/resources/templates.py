"""Templates that lie beside the code that fills them in."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def environment(folder: Path, *, escape: bool = True) -> Environment:
    """Return jinja2's environment for the templates of a folder; a name that is not there is an error.

    Args:
        folder: of the templates.
        escape: what is filled in, as HTML needs it.
    """
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
