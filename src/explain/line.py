"""Integrated gradients along a line, as many as it takes for them to add up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.explain.extra import library
from src.explain.method import INCOMPLETE, missed
from src.explain.subject import AT_ONCE

STEPS, STEPS_OF_HALVES = 32, 8
"""Gradients taken on the whole line, and on each piece of it after it was halved."""
MOST_STEPS = 4096
"""Gradients of a text, at the most."""


def along_line(
    score: Callable[[Tensor], Tensor], start: Tensor, end: Tensor, most: int = MOST_STEPS
) -> tuple[np.ndarray, float]:
    """Return the integrated gradients of each place, float64 [places], and the score's difference.

    captum's steps of even width need thousands where the gradient jumps, as at a maximum. So each piece
    of the line whose sum misses the score's difference over that piece is halved, until the whole adds up.

    Args:
        score: vectors [points, places, width] -> [points].
        start: vectors of the baseline, [1, places, width]: those of the tokens of a text, or of the pixels of an image.
        end: those of the input.
        most: gradients after which no piece is halved again.

    Raises:
        InputError: captum is not installed.
    """
    captum = library("captum.attr").IntegratedGradients(score)

    def measured(first: Tensor, last: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Ends of pieces, 0 to 1 each -> values [pieces, places], and by how much their sums miss [pieces]."""
        ends: list[Tensor] = [start + place[:, None, None] * (end - start) for place in (last, first)]
        found: Any = captum.attribute(*ends, n_steps=steps, internal_batch_size=AT_ONCE)
        values = found.detach().double().sum(-1)
        with torch.no_grad():
            return values, values.sum(1) - (score(ends[0]).double() - score(ends[1]).double())

    with torch.no_grad():
        difference = float(score(end).double() - score(start).double())
    first, last, steps = torch.zeros(1), torch.ones(1), STEPS
    values, misses = measured(first, last, steps)
    while missed(values.sum(0).numpy(), difference) > INCOMPLETE and steps < most:
        bad = misses.abs() >= misses.abs().mean()
        middle = (first[bad] + last[bad]) / 2
        halves = torch.cat([first[bad], middle]), torch.cat([middle, last[bad]])
        steps += STEPS_OF_HALVES * len(halves[0])
        renewed = zip((first, last, values, misses), (*halves, *measured(*halves, STEPS_OF_HALVES)), strict=True)
        first, last, values, misses = (torch.cat([old[~bad], new]) for old, new in renewed)
    return values.sum(0).numpy(), difference
