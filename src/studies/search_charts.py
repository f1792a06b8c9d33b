"""The charts of a search's page as shares of their width and height; the template makes SVG of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.ticker import MaxNLocator

from src.runs.compare.table import number
from src.studies.importance import limits

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

MOST_TICKS = 4
MOST_CATEGORIES = 8
"""Values of a choice that are written below a chart."""
SPREAD, GOLDEN = 0.6, 0.618
"""Share of a choice's width over which its trials are spread, and the step from one to the next of them."""
MARGIN = 0.05
"""Share of a chart's height between its edge and the outermost value."""


@dataclass(frozen=True)
class Axis:
    """The values of a field or of the metric, and where they are drawn."""

    name: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    integer: bool = False
    categories: tuple[str, ...] = ()
    """Values of a choice, in the place of numbers."""

    def at(self, value: Any) -> float:
        """Return where a value is drawn, from 0 to 1; beyond an end it is drawn at that end."""
        if self.categories:
            return (self.categories.index(text_of(value)) + 0.5) / len(self.categories)
        low, high, value = (math.log(one) if self.log else one for one in (self.low, self.high, max(value, self.low)))
        return min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 0.5

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """The places that are labelled, and their labels."""
        if self.categories:
            step = math.ceil(len(self.categories) / MOST_CATEGORIES)
            return [(self.at(name), name) for name in self.categories[::step]]
        values = _powers(self.low, self.high) if self.log else []
        if len(values) < 2:  # a range so narrow that it is almost linear
            values = MaxNLocator(MOST_TICKS, integer=self.integer).tick_values(self.low, self.high)
        inside = [float(value) for value in values if self.low <= value <= self.high]
        return [(self.at(value), _short(value)) for value in inside]

    @property
    def domain(self) -> str:
        """The values in words: '1e-05 to 0.1, logarithmic'."""
        if self.categories:
            return ", ".join(self.categories)
        return f"{self.low:g} to {self.high:g}{', logarithmic' if self.log else ''}"


@dataclass(frozen=True)
class Point:
    """A trial in a chart; places are per cent of the chart's width, and of its height from the top."""

    x: float
    y: float
    kind: str
    """finished, best, beyond (the axis), pruned, failed or running."""
    title: str


def axis_of(name: str, trials: Sequence[FrozenTrial]) -> Axis:
    """Return the axis of a searched field, over all values that any trial could have had."""
    kinds: list[Any] = [trial.distributions[name] for trial in trials if name in trial.distributions]
    choices = [value for kind in kinds for value in getattr(kind, "choices", ())]
    if choices:
        return Axis(name, categories=tuple(dict.fromkeys(map(text_of, choices))))
    low, high = min(kind.low for kind in kinds), max(kind.high for kind in kinds)
    whole = all(isinstance(kind.low, int) for kind in kinds)
    return Axis(name, float(low), float(high), log=all(kind.log for kind in kinds), integer=whole)


def value_axis(metric: str, values: Sequence[float], *, best: float) -> Axis:
    """Return the axis of the metric: of all values but those far out, which one diverged trial would stretch it to.

    Args:
        metric: its name.
        values: at least one, finite.
        best: the best one, always within.
    """
    low, high = limits(values)
    near = [value for value in values if low <= value <= high or value == best]
    least, most = min(near), max(near)
    margin = MARGIN * (most - least) or abs(least) * MARGIN or MARGIN
    return Axis(metric, least - margin, most + margin)


def places(
    axis: Axis, trials: Sequence[FrozenTrial], among: Sequence[tuple[FrozenTrial, str]], value: Axis
) -> list[Point]:
    """Return the points of a slice: each trial's field across, its value upwards.

    Args:
        axis: of the field, which some of the trials may not have.
        trials: finished, worst first, so that the best is drawn last.
        among: trials without a final value, and their kind; they have a line of their own below the chart.
        value: axis of the metric.
    """
    found = [
        Point(_percent(_beside(axis, trial)), 50.0, kind, title(trial, kind))
        for trial, kind in among
        if axis.name in trial.params
    ]
    for trial in trials:
        if axis.name in trial.params:
            found.append(point(trial, _beside(axis, trial), value, best=trial is trials[-1]))
    return found


def _beside(axis: Axis, trial: FrozenTrial) -> float:
    """Return where a trial is drawn across; those with one and the same choice are beside one another."""
    apart = (GOLDEN * trial.number % 1 - 0.5) * SPREAD / len(axis.categories) if axis.categories else 0.0
    return axis.at(trial.params[axis.name]) + apart


def point(trial: FrozenTrial, x: float, value: Axis, *, best: bool) -> Point:
    """Return the point of a finished trial, `x` from 0 to 1."""
    assert trial.value is not None
    beyond = not value.low <= trial.value <= value.high
    kind = "best" if best else "beyond" if beyond else "finished"
    return Point(_percent(x), _percent(1 - value.at(trial.value)), kind, title(trial, kind))


def title(trial: FrozenTrial, kind: str) -> str:
    """Return what a trial is, in a line: 'trial-3, 0.9512: optim.lr 0.001, ...'."""
    value = number(trial.value) if kind in ("finished", "best", "beyond") and trial.value is not None else kind
    params = ", ".join(f"{name} {text_of(one)}" for name, one in trial.params.items())
    return f"{run_of(trial)}, {value}: {params}"


def run_of(trial: FrozenTrial) -> str:
    """Return the name of a trial's run directory."""
    return str(trial.user_attrs.get("run", f"trial-{trial.number + 1}"))


def text_of(value: Any) -> str:
    """Return a field's value for people to read."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def steps(trials: Sequence[FrozenTrial], x: Axis, value: Axis, *, highest: bool) -> str:
    """Return the best value so far over the trials, finished ones in their order, as the points of an SVG polyline."""
    found: list[str] = []
    best: float | None = None
    for trial in trials:
        assert trial.value is not None
        across = _percent(x.at(trial.number + 1))
        if best is None or (trial.value > best if highest else trial.value < best):
            if best is not None:
                found.append(f"{across},{_percent(1 - value.at(best))}")
            best = trial.value
        found.append(f"{across},{_percent(1 - value.at(best))}")
    return " ".join(found)


def _powers(low: float, high: float) -> list[float]:
    """Return the powers of ten between two numbers, every few where they are many, their 2 and 5 times where few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    digits = (1, 2, 5) if high / low < 100 else (1,)
    inside = [value for power in powers for one in digits if low <= (value := float(f"{one}e{power}")) <= high]
    return inside[:: math.ceil(len(inside) / (MOST_TICKS + 1)) or 1]


def _short(value: float) -> str:
    """Return a label: '0.25', but '1e-5' for 0.00001."""
    power = f"{value:.0e}".replace("e-0", "e-")
    return power if 0 < abs(value) < 0.001 and float(power) == value else f"{value:g}"


def _percent(share: float) -> float:
    return round(100 * share, 2)
