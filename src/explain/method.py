"""What a method takes and gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from src.explain.subject import Subject

INCOMPLETE = 0.01
"""Share beyond which values do not add up; integrated gradients take more gradients until they do."""


def missed(values: np.ndarray, sums_to: float) -> float:
    """Return the share by which values miss what they have to add up to.

    Where large values of both signs cancel out, it is a share of a tenth of their sizes: one of a sum near 0 means
    nothing.
    """
    return float(abs(values.sum() - sums_to) / max(abs(sums_to), 0.1 * np.abs(values).sum(), 1e-9))


class Attribution(NamedTuple):
    """How much each part of an input speaks for the answer."""

    values: np.ndarray
    """Positive where it speaks for the target: of an image [height, width], else [parts]."""
    error: np.ndarray | None = None
    """Monte-Carlo standard error of each value, where the method draws at random."""
    sums_to: float | None = None
    """What the values have to add up to, where the method promises that: the answer's difference from a baseline."""
    enforced: bool = False
    """Whether the method makes them add up, so that the sum shows no more than that the arithmetic is right."""
    freedom: int = 0
    """Degrees of freedom of the error: it is that of the mean of few estimates, so that its interval is Student's."""


class Method(Protocol):
    """Explains examples of one kind."""

    def __call__(self, subject: Subject, examples: Sequence[Any], targets: Sequence[int]) -> list[Attribution]:
        """Return an attribution for each example."""
        ...
