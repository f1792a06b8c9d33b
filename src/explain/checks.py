"""Whether explanations can be believed: against random order, a randomised network, and a small change of the input."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import nn

from src.explain.example import Example
from src.explain.method import Attribution, Method
from src.explain.subject import Subject

STEPS = 20
"""Steps of a curve: after each, as many more parts are hidden or shown."""
ORDERS = 5
"""Random orders that each example is compared with."""
RESAMPLES = 2000
"""Of the bootstrap."""


@dataclass(frozen=True)
class Faithfulness:
    """Area under the insertion curve minus that under the deletion curve (Petsiuk et al. 2018, arXiv 1806.07421).

    Parts are shown, or hidden, those that count most first. Between -1 and 1 for a probability; for a number, minus the
    distance from the answer takes the probability's place, in standard deviations of the training's targets.
    """

    gain: float
    """Mean over the examples."""
    interval: tuple[float, float] | None
    """95 %, by bootstrap over the examples; None for one example."""
    random: float
    """The same of random orders."""
    beyond_random: tuple[float, float] | None
    """95 % interval of the difference, example by example."""
    examples: int
    insertion: list[float]
    """Mean curve, from all hidden to all shown."""
    deletion: list[float]
    """Mean curve, from all shown to all hidden."""

    @property
    def beats_chance(self) -> bool | None:
        """Whether the interval of the difference lies above 0; None where there is no interval."""
        return None if self.beyond_random is None else self.beyond_random[0] > 0


@dataclass(frozen=True)
class Checks:
    """What the checks found."""

    faithful: Faithfulness
    cascade: list[tuple[str, float]] = field(default_factory=list)
    """Layers whose weights were randomised, from the head down and each with those above -> agreement of the maps."""
    stable: float | None = None
    """Agreement with the explanation of the same input, changed a little."""
    completeness: float | None = None
    """Largest share by which the values miss what they have to add up to; None where the method promises nothing."""
    doubts: list[str] = field(default_factory=list)
    """Why the answers themselves are not to be trusted, such as a run no better than guessing."""

    @property
    def sanity(self) -> float | None:
        """Agreement of the explanations with those of the network with all weights randomised."""
        return self.cascade[-1][1] if self.cascade else None

    @property
    def warnings(self) -> list[str]:
        """Why the explanations are not to be trusted; empty where they may be."""
        raise NotImplementedError

    def lines(self) -> list[str]:
        """Return the checks in words, a line each, as the command prints them."""
        raise NotImplementedError
