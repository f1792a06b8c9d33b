"""Whether explanations can be believed: against random order, a randomised network, and a small change of the input."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.stats import rankdata
from torch import nn

from src.explain.example import Example
from src.explain.faithfulness import Faithfulness
from src.explain.method import INCOMPLETE, Attribution, Method, missed
from src.explain.subject import Subject
from src.explain.wording import alike

FEW_PARTS = 5
"""Parts of an example below which two orders agree by chance."""
MANY_EMPTY = 0.1
"""Share of explanations that are all 0 beyond which the method does not fit the network."""
CASCADE = (0.0, 0.5, 1.0)
"""Shares of the layers that are randomised one after the other; the head is the first."""
INSENSITIVE = 0.5
"""Agreement with a randomised network beyond which explanations are not about the network."""


@dataclass(frozen=True)
class Checks:
    """What the checks found."""

    faithful: Faithfulness | None
    """None where an input has one part, which is in no order."""
    cascade: list[tuple[str, float]] = field(default_factory=list)
    """Layers whose weights were randomised, from the head down and each with those above -> agreement of the
    explanations; empty where they have too few parts to tell."""
    by_chance: float = 0.0
    """Agreement of explanations that have nothing in common."""
    stable: float | None = None
    """Agreement with the explanation of the same input, changed a little; None as for `cascade`."""
    completeness: float | None = None
    """Largest share by which the values miss what they have to add up to; None where the method promises nothing."""
    enforced: bool = False
    """Whether the method makes the values add up, whatever they are worth."""
    drawn: float | None = None
    """Largest Monte-Carlo standard error of a value, as a share of the spread of its example's values; None where
    nothing was drawn at random."""
    empty: int = 0
    """Checked explanations whose values are all 0, so that nothing follows from them."""
    checked: int = 0
    """Explanations that were checked."""
    doubts: list[str] = field(default_factory=list)
    """Why the answers themselves are not to be trusted, such as a run no better than guessing."""

    @property
    def sanity(self) -> float | None:
        """Agreement of the explanations with those of the network with all weights randomised."""
        return self.cascade[-1][1] if self.cascade else None

    @property
    def beyond_chance(self) -> float:
        """`sanity` as a share of what lies between chance and the same explanation, 0 at least."""
        return max(0.0, ((self.sanity or 0.0) - self.by_chance) / (1 - self.by_chance))

    @property
    def warnings(self) -> list[str]:
        """Why the explanations are not to be trusted; empty where they may be."""
        found = [*self.doubts]
        if self.empty > MANY_EMPTY * self.checked:
            found.append(
                f"{self.empty} of the {self.checked} explanations that were checked are empty; try another --method"
            )
        if self.faithful and self.faithful.beats_chance is False:
            found.append("the order of the parts is no better than a random one")
        if self.completeness is not None and self.completeness > INCOMPLETE:
            found.append(f"the values miss what they have to add up to by {self.completeness:.1%}")
        if self.sanity is not None and self.beyond_chance > INSENSITIVE:
            found.append(f"a network of random weights is explained alike ({self.sanity:.2f})")
        return found

    def lines(self) -> dict[str, str]:
        """Return the checks in words: name -> what it found."""
        lines: dict[str, str] = {}
        if (faithful := self.faithful) is not None:
            gain, random, *ends = alike(faithful.gain, faithful.random, *(faithful.interval or ()))
            of = f" (95 % {ends[0]} to {ends[1]})" if ends else ""
            verdict = {True: "beats chance", False: "does not beat chance", None: "too few examples to say more"}
            lines["faithful"] = (
                f"insertion minus deletion {gain}{of} on {faithful.examples} "
                f"example{'s' * (faithful.examples > 1)}, random order {random}: "
                f"{verdict[faithful.beats_chance]}"
            )
        if self.sanity is not None:
            lines["sanity"] = (
                f"with randomised weights the explanations still agree {self.sanity:.2f}, {self.by_chance:.2f} by "
                f"chance: {_said_of(self.beyond_chance)}"
            )
        if self.stable is not None:
            lines["stable"] = f"after a small change of the input they agree {self.stable:.2f}"
        if self.completeness is not None:
            how = ", which this method enforces" if self.enforced else ""
            lines["complete"] = f"the values add up to the answer's difference within {self.completeness:.2%}{how}"
        if self.drawn is not None:
            lines["drawn"] = (
                f"a value's standard error, of the method's own random draws, is up to {self.drawn:.1%} of the spread "
                "of its example's values"
            )
        return lines


def _said_of(agreement: float) -> str:
    if agreement > INSENSITIVE:
        return "they are hardly about this model"
    return "part of each is the architecture's" if agreement > 0.2 else "they are about this model"


def cascade(
    subject: Subject,
    method: Method,
    examples: Sequence[Example],
    targets: Sequence[int],
    found: Sequence[Attribution],
) -> list[tuple[str, float]]:
    """Return how far explanations agree with those of the network as its weights are randomised, group by group: the
    mean absolute rank correlation.

    It begins with the head and ends with all weights (the cascade of Adebayo et al. 2018, arXiv 1810.03292). What norms
    have counted in the training, which is no weight, stays.
    """
    randomised = Subject(copy.deepcopy(subject.task), subject.temperature)
    groups = [group for group in randomised.task.layer_groups() if group]
    steps = sorted({max(1, round(len(groups) * share)) for share in CASCADE})
    steps_done: list[tuple[str, float]] = []
    done = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for step in steps:
            for group in groups[len(groups) - step : len(groups) - done]:
                randomise(group)
            done = step
            name = "all" if step == len(groups) else f"the last {step} of {len(groups)}"
            there = agreements(examples, found, method(randomised, examples, targets))
            steps_done.append((name, float(np.abs(there).mean())))
    return steps_done


@torch.no_grad()
def randomise(parameters: Sequence[nn.Parameter]) -> None:
    """Shuffle the values of each parameter, in place: its scale stays, what was learned does not."""
    for parameter in parameters:
        values = parameter.flatten()
        parameter.copy_(values[torch.randperm(len(values))].view_as(parameter))


def agreements(examples: Sequence[Example], one: Sequence[Attribution], other: Sequence[Attribution]) -> np.ndarray:
    """Return the rank correlation (Spearman) of two explanations of each example, over its parts, float64 [examples]; 0
    where one of them has no order."""
    pairs = zip(examples, one, other, strict=True)
    return np.array([_spearman(example.of_parts(a.values), example.of_parts(b.values)) for example, a, b in pairs])


def _spearman(one: np.ndarray, other: np.ndarray) -> float:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def by_chance(examples: Sequence[Example]) -> float:
    """Return the mean absolute rank correlation of orders that have nothing in common: sqrt(2 / (pi (parts - 1)))."""
    return float(np.mean([math.sqrt(2 / math.pi / (len(example) - 1)) for example in examples]))


def can_be_compared(example: Example, found: Attribution) -> bool:
    """Return whether another explanation of an example can agree with this one other than by chance."""
    return len(example) >= FEW_PARTS and bool(np.ptp(found.values))


def stability(
    subject: Subject,
    method: Method,
    examples: Sequence[Example],
    targets: Sequence[int],
    found: Sequence[Attribution],
) -> float:
    """Return the mean rank correlation with the explanations of inputs changed a little; see `Example.changed`."""
    changed = method(subject, [example.changed() for example in examples], targets)
    return float(agreements(examples, found, changed).mean())


def completeness(found: Sequence[Attribution]) -> float | None:
    """Return the largest share by which values miss their sum, None where nothing is promised; see `missed`."""
    return max((missed(one.values, one.sums_to) for one in found if one.sums_to is not None), default=None)


def drawn(found: Sequence[Attribution]) -> float | None:
    """Return the largest Monte-Carlo standard error of a value as a share of the spread of its example's values, the
    largest minus the smallest; None where nothing was drawn."""
    shares = [
        float(one.error.max() / np.ptp(one.values))
        for one in found
        if one.error is not None and one.error.any() and np.ptp(one.values)
    ]
    return max(shares, default=None)
