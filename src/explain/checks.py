"""Whether explanations can be believed: against random order, a randomised network, and a small change of the input."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.stats import rankdata
from torch import nn

from src.explain.example import Example
from src.explain.method import Attribution, Method
from src.explain.subject import Subject

STEPS = 10
"""Steps of a curve: after each, as many more parts are hidden or shown."""
RESAMPLES = 2000
"""Of the bootstrap."""
CASCADE = (0.0, 0.5, 1.0)
"""Shares of the layers that are randomised one after the other; the head is the first."""
INCOMPLETE = 0.01
"""Share beyond which values do not add up."""
INSENSITIVE = 0.5
"""Agreement with a randomised network beyond which explanations are not about the network."""


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
    """The same of random orders, one an example."""
    beyond_random: tuple[float, float] | None
    """95 % interval of the difference, example by example."""
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
    empty: int = 0
    """Explanations that are the same everywhere, so that nothing follows from them."""
    doubts: list[str] = field(default_factory=list)
    """Why the answers themselves are not to be trusted, such as a run no better than guessing."""

    @property
    def sanity(self) -> float | None:
        """Agreement of the explanations with those of the network with all weights randomised."""
        return self.cascade[-1][1] if self.cascade else None

    @property
    def warnings(self) -> list[str]:
        """Why the explanations are not to be trusted; empty where they may be."""
        found = [*self.doubts]
        if self.empty:
            found.append(
                f"{self.empty} of {self.faithful.examples} explanations are empty: another --method may see more"
            )
        if self.faithful.beats_chance is False:
            found.append("the order of the parts is no better than a random one")
        if self.completeness is not None and self.completeness > INCOMPLETE:
            found.append(f"the values miss what they have to add up to by {self.completeness:.1%}")
        if self.sanity is not None and self.sanity > INSENSITIVE:
            found.append(f"a network of random weights is explained alike ({self.sanity:.2f})")
        return found

    def lines(self) -> dict[str, str]:
        """Return the checks in words: name -> what it found."""
        faithful = self.faithful
        of = f" (95 % {faithful.interval[0]:.2f} to {faithful.interval[1]:.2f})" if faithful.interval else ""
        verdict = {True: "beats chance", False: "does not beat chance", None: "of one example there is no interval"}
        lines = {
            "faithful": f"insertion minus deletion {faithful.gain:.2f}{of} on {faithful.examples} "
            f"example{'s' * (faithful.examples > 1)}, random order {faithful.random:.2f}: "
            f"{verdict[faithful.beats_chance]}"
        }
        if self.sanity is not None and not math.isnan(self.sanity):
            said = _said_of(self.sanity)
            lines["sanity"] = f"with randomised weights the explanations still agree {self.sanity:.2f}: {said}"
        if self.stable is not None and not math.isnan(self.stable):
            lines["stable"] = f"after a small change of the input they agree {self.stable:.2f}"
        if self.completeness is not None:
            lines["complete"] = f"the values add up to the answer's difference within {self.completeness:.2%}"
        return lines


def _said_of(agreement: float) -> str:
    if agreement > INSENSITIVE:
        return "they are hardly about this model"
    return "part of each is the architecture's" if agreement > 0.2 else "they are about this model"


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
) -> Faithfulness:
    """Compare the order that explanations give the parts with a random one, example by example.

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
        values = example.of_parts(attribution.values)
        values = values if subject.classes else np.abs(values)
        ties = generator.permutation(len(values))  # parts of equal value stand in no order
        own.append(curves(subject, example, target, ties[np.argsort(-values[ties], kind="stable")]))
        random.append(curves(subject, example, target, generator.permutation(len(values))))
    gains, by_chance = (np.array([_gain(*pair) for pair in pairs]) for pairs in (own, random))
    insertion, deletion = np.mean(own, axis=0).tolist()
    random_insertion, random_deletion = np.mean(random, axis=0).tolist()
    return Faithfulness(
        float(gains.mean()),
        _interval(gains),
        float(by_chance.mean()),
        _interval(gains - by_chance),
        len(gains),
        insertion,
        deletion,
        random_insertion,
        random_deletion,
    )


def _gain(insertion: np.ndarray, deletion: np.ndarray) -> float:
    return float(np.trapezoid(insertion - deletion, dx=1 / (len(insertion) - 1)))


def _interval(values: np.ndarray) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean; None for one value."""
    if len(values) < 2:
        return None
    drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(1), [2.5, 97.5])
    return float(low), float(high)


def cascade(
    subject: Subject,
    method: Method,
    examples: Sequence[Example],
    targets: Sequence[int],
    found: Sequence[Attribution],
) -> list[tuple[str, float]]:
    """Return how far explanations agree with those of the network as its weights are randomised, group by group.

    It begins with the head and ends with all weights (the cascade of Adebayo et al. 2018, arXiv 1810.03292).
    """
    randomised = Subject(copy.deepcopy(subject.task))
    groups = [group for group in randomised.task.layer_groups() if group]
    steps = sorted({max(1, round(len(groups) * share)) for share in CASCADE})
    agreements: list[tuple[str, float]] = []
    done = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for step in steps:
            for group in groups[len(groups) - step : len(groups) - done]:
                randomise(group)
            done = step
            name = "all" if step == len(groups) else f"the last {step} of {len(groups)}"
            agreements.append((name, agreement(examples, found, method(randomised, examples, targets))))
    return agreements


@torch.no_grad()
def randomise(parameters: Sequence[nn.Parameter]) -> None:
    """Shuffle the values of each parameter, in place: its scale stays, and all that was learned is gone."""
    for parameter in parameters:
        values = parameter.flatten()
        parameter.copy_(values[torch.randperm(len(values))].view_as(parameter))


def agreement(examples: Sequence[Example], one: Sequence[Attribution], other: Sequence[Attribution]) -> float:
    """Return the mean absolute rank correlation (Spearman) of two explanations of each example, over its parts.

    An explanation that is the same everywhere agrees with none. Empty ones in the first place are left out; NaN if all
    are.
    """
    found = [
        abs(_spearman(example.of_parts(a.values), example.of_parts(b.values)))
        for example, a, b in zip(examples, one, other, strict=True)
        if np.ptp(a.values)
    ]
    return float(np.mean(found)) if found else math.nan


def _spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Return the rank correlation; 0 where one has no order, such as a map of zeros."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def stability(
    subject: Subject,
    method: Method,
    examples: Sequence[Example],
    targets: Sequence[int],
    found: Sequence[Attribution],
) -> float:
    """Return how far explanations agree with those of the inputs changed a little; see `Example.changed`."""
    return agreement(examples, found, method(subject, [example.changed() for example in examples], targets))


def completeness(found: Sequence[Attribution]) -> float | None:
    """Return the largest share by which values miss what they have to add up to, None where nothing is promised.

    Where large values of both signs cancel out, it is a share of a tenth of their sizes: one of a sum near 0 means
    nothing.
    """
    shares = [
        abs(one.values.sum() - one.sums_to) / max(abs(one.sums_to), 0.1 * np.abs(one.values).sum(), 1e-9)
        for one in found
        if one.sums_to is not None
    ]
    return float(max(shares)) if shares else None
