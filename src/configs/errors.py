"""Errors that the user can put right."""

from __future__ import annotations

import difflib


class InputError(Exception):
    """Something that the user can put right: the message names the file, flag or field and the way out."""


def did_you_mean(word: str, known: list[str]) -> str:
    """Return ' Did you mean X?' for the known word nearest to `word`, else ''."""
    near = difflib.get_close_matches(word, known, n=1)
    return f" Did you mean {near[0]}?" if near else ""
