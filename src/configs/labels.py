"""Names of classes."""

from __future__ import annotations

import math


def is_number(label: str) -> bool:
    """Return whether a label is a number; nan and inf, which have no place in an order, are words."""
    try:
        return math.isfinite(float(label))
    except ValueError:
        return False


def numbers_first(label: str) -> tuple[int, float, str]:
    """Return a sorting key for class names: numbers by their value, then words."""
    return (0, float(label), label) if is_number(label) else (1, 0.0, label)


LABEL_SEPARATOR = ";"
"""Between the labels of one example in a cell."""


def split_labels(cell: str) -> list[str]:
    """Return the labels of a cell such as 'billing; bug', without blanks around them, each once."""
    return list(dict.fromkeys(name for part in cell.split(LABEL_SEPARATOR) if (name := part.strip())))
