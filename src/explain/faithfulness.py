"""Whether the order that explanations give the parts is better than a random one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import t as student

from src.explain.example import Example
from src.explain.method import Attribution
from src.explain.subject import Subject

STEPS = 10
"""Steps of a curve: after each, as many more parts are hidden or shown."""
RESAMPLES = 2000
"""Of the bootstrap."""
FEWEST, MANY = 6, 30
"""Examples from which on a verdict is given, and from which on the bootstrap's interval holds what it says."""


@dataclass(frozen=True)
class Faithfulness:
    """Area under the insertion curve minus that under the deletion curve (Petsiuk et al. 2018, arXiv 1806.07421).

    Parts are shown, or hidden, those that count most first. Between -1 and 1 for a probability; for a number, minus the
    distance from the answer takes the probability's place, in standard deviations of the training's targets.
    """

    gain: float
    """Mean over the examples."""
    interval: tuple[float, float] | None
    """95 % over the examples; None for one example."""
    random: float
    """The same of random orders, one an example."""
    beyond_random: tuple[float, float] | None
    """95 % interval of the difference, example by example; None below `FEWEST` examples."""
    examples: int
    insertion: list[float]
    """Mean curve, from all hidden to all shown."""
    deletion: list[float]
    """Mean curve, from all shown to all hidden."""
    random_insertion: list[float] = field(default_factory=list)
    """Mean insertion curve of the random orders."""
    random_deletion: list[float] = field(default_factory=list)
    """Mean deletion curve of the random orders."""

    @property
    def beats_chance(self) -> bool | None:
        """Whether the interval of the difference lies above 0; None where there are too few examples to say."""
        return None if self.beyond_random is None else self.beyond_random[0] > 0


def curves(subject: Subject, example: Example, target: int, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the insertion and the deletion curve of an example, each float64 [steps + 1].

    Args:
        subject: the network.
        example: that is explained.
        target: that is asked about.
        order: its parts, those that count most first.
    """
    count = len(order)
    sizes = np.unique(np.linspace(0, count, min(STEPS, count) + 1).round().astype(int))
    rank = np.empty(count, int)
    rank[order] = np.arange(count)
    shown = rank[None, :] < sizes[:, None]
    scores = subject.scores(example, target, np.concatenate([shown, ~shown]), raw=not subject.classes)
    if not subject.classes:
        scores = -np.abs(scores - scores[len(sizes) - 1])
    even = np.linspace(0, 1, STEPS + 1)
    insertion, deletion = scores[: len(sizes)], scores[len(sizes) :]
    return np.interp(even, sizes / count, insertion), np.interp(even, sizes / count, deletion)


def faithfulness(
    subject: Subject,
    examples: Sequence[Example],
    targets: Sequence[int],
    found: Sequence[Attribution],
    enough: Callable[[], bool] = lambda: False,
) -> Faithfulness | None:
    """Compare the order that explanations give the parts with a random one, example by example.

    Those of one part have no order; None where all are.

    Args:
        subject: the network.
        examples: that are explained.
        targets: of each.
        found: the explanations.
        enough: says whether the time is up; one example at least is looked at.
    """
    generator = np.random.default_rng(0)
    own: list[tuple[np.ndarray, np.ndarray]] = []
    random: list[tuple[np.ndarray, np.ndarray]] = []
    for example, target, attribution in zip(examples, targets, found, strict=True):
        if own and enough():
            break
        if len(example) < 2:
            continue
        values = example.of_parts(attribution.values)
        values = values if subject.classes else np.abs(values)
        ties = generator.permutation(len(values))  # parts of equal value stand in no order
        own.append(curves(subject, example, target, ties[np.argsort(-values[ties], kind="stable")]))
        random.append(curves(subject, example, target, generator.permutation(len(values))))
    if not own:
        return None
    gains, by_chance = (np.array([_gain(*pair) for pair in pairs]) for pairs in (own, random))
    insertion, deletion = np.mean(own, axis=0).tolist()
    random_insertion, random_deletion = np.mean(random, axis=0).tolist()
    return Faithfulness(
        float(gains.mean()),
        _interval(gains),
        float(by_chance.mean()),
        _interval(gains - by_chance) if len(gains) >= FEWEST else None,
        len(gains),
        insertion,
        deletion,
        random_insertion,
        random_deletion,
    )


def _gain(insertion: np.ndarray, deletion: np.ndarray) -> float:
    return float(np.trapezoid(insertion - deletion, dx=1 / (len(insertion) - 1)))


def _interval(values: np.ndarray) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean, by bootstrap, of few values Student's; None for one value."""
    if len(values) < 2:
        return None
    if len(values) < MANY:
        spread = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
        return float(values.mean() - spread), float(values.mean() + spread)
    drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(1), [2.5, 97.5])
    return float(low), float(high)
