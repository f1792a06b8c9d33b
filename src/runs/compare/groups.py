"""Runs that differ in nothing but the seed form a group; groups on the same data and split can be compared."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit, logit, stdtrit

from src.runs.compare.runs import Run

MAIN = ("acc", "rmse")
"""The metrics of a split that the terminal has room for; files and the page have all."""
SHARES = (
    *("acc", "balanced_acc", "precision", "recall", "f1", "auroc", "ece"),
    *("f1_micro", "f1_macro", "map", "exact_match", "hamming", "coverage"),
)
"""Metrics that lie between 0 and 1, whose mean does too."""
LEVEL = 0.95
STATES = ("done", "failed", "interrupted", "running", "died")


class Estimate(NamedTuple):
    """A metric over the seeds of a group."""

    n: int
    mean: float
    sd: float | None
    """Sample standard deviation; None for a single run."""
    low: float | None
    """Lower end of the 95 % interval of the mean; None for one run, or two: with one degree of freedom it would be 13
    times as wide as the two are apart, and say nothing."""
    high: float | None

    @property
    def pair(self) -> tuple[float, float] | None:
        """The values of two runs, the lesser first; None for any other number of runs."""
        if self.n != 2 or self.sd is None:
            return None
        half = self.sd / math.sqrt(2)
        return self.mean - half, self.mean + half


def estimate(values: Sequence[float], *, share: bool = False) -> Estimate:
    """Return mean, deviation and interval of at least one value, of independent runs.

    The interval is Student's t. That of the mean of shares is Student's t on the logit scale, its standard error by the
    delta method, as for proportions of surveys (R's `survey::svyciprop(method="logit")`, Stata's `proportion,
    citype(logit)`): it stays within 0 and 1, and single values of 0 or 1 do it no harm. Where the mean itself is 0 or 1
    so are all values, and the interval is that value.

    Args:
        values: of a metric, one a run.
        share: whether the metric lies between 0 and 1. Where a value does not, it is taken for another one.
    """
    n, mean = len(values), float(np.mean(values))
    if n == 1:
        return Estimate(1, mean, None, None, None)
    sd = float(np.std(values, ddof=1))
    if n == 2:
        return Estimate(2, mean, sd, None, None)
    half = float(stdtrit(n - 1, 0.5 + LEVEL / 2)) * sd / math.sqrt(n)
    if not (share and all(0 <= value <= 1 for value in values)):
        return Estimate(n, mean, sd, mean - half, mean + half)
    if not 0 < mean < 1:
        return Estimate(n, mean, sd, mean, mean)
    centre, half = float(logit(mean)), half / (mean * (1 - mean))
    low, high = float(expit(centre - half)), float(expit(centre + half))
    return Estimate(n, mean, sd, min(low, mean), max(high, mean))  # of like values, they differ by rounding


def is_share(metric: str) -> bool:
    return metric.rpartition("/")[2] in SHARES


@dataclass(frozen=True)
class Group:
    """Runs with the same settings."""

    settings: dict[str, Any]
    """All that made the runs what they are but the seed, flat: 'experiment', 'optim.lr', 'data', ..."""
    runs: list[Run]

    @property
    def name(self) -> str:
        return self.runs[0].experiment

    @cached_property
    def counted(self) -> list[Run]:
        """The finished runs that the estimates are of: of a seed that ran twice the newer, as the same run again adds
        no evidence."""
        newest: dict[Any, Run] = {}
        for run in sorted(self.runs, key=lambda run: (run.record.get("started", ""), run.path.name)):
            if run.state == "done":
                newest[run.seed] = run
        return sorted(newest.values(), key=lambda run: (run.seed is None, run.seed))

    @property
    def states(self) -> dict[str, int]:
        """How many runs are done, failed and so on."""
        counts = Counter(run.state for run in self.runs)
        return {state: counts[state] for state in STATES if counts[state]}

    @cached_property
    def estimates(self) -> dict[str, Estimate]:
        """'best <monitored metric>', then each metric of the best checkpoint."""
        values: dict[str, list[float]] = defaultdict(list)
        for run in self.counted:
            if run.best:
                values[f"best {run.best['name']}"].append(run.best["value"])
            for name, value in run.metrics.items():
                values[name].append(value)
        return {name: estimate(found, share=is_share(name)) for name, found in values.items()}

    @cached_property
    def monitored(self) -> str:
        """The metric that chose the checkpoints; '' where no run is done."""
        return next((run.best["name"] for run in self.counted if run.best), "")

    @cached_property
    def best(self) -> Run | None:
        """The finished run with the best value of the monitored metric."""
        done = [run for run in self.counted if run.best and not math.isnan(run.best["value"])]
        if not done:
            return None
        return (min if done[0].mode == "min" else max)(done, key=lambda run: run.best["value"])


@dataclass(frozen=True)
class Block:
    """Groups on the same data with the same splits: what may be compared, best first."""

    groups: list[Group]
    columns: list[str] = field(init=False)
    """The settings in which the groups differ, beside 'experiment'."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", sorted(self.groups, key=_best_first))
        object.__setattr__(self, "columns", differing(group.settings for group in self.groups))

    @property
    def runs(self) -> list[Run]:
        return [run for group in self.groups for run in group.runs]

    @cached_property
    def data(self) -> dict[str, Any]:
        """What the records say of the data; empty where no run came so far as to read them."""
        return next((run.data for run in self.runs if run.data), {})

    @property
    def fallback(self) -> bool:
        return any(run.data.get("stand_in") for run in self.runs)

    @cached_property
    def metrics(self) -> list[str]:
        """Names of all estimates: what was monitored, val, then test where it was read."""
        names = dict.fromkeys(name for group in self.groups for name in group.estimates)
        return sorted(names, key=lambda name: (not name.startswith("best "), name.startswith("test/")))

    @property
    def main_metrics(self) -> list[str]:
        """The few for the terminal: monitored, accuracy or RMSE; what was monitored is not shown twice."""
        monitored = [name for name in self.metrics if name.startswith("best ")]
        main = [f"{split}/{name}" for split in ("val", "test") for name in MAIN]
        return monitored + [name for name in main if name in self.metrics and f"best {name}" not in monitored]

    def title(self, group: Group) -> str:
        """Return the group's experiment, with its module where another of the same name is beside it."""
        same = {other.settings["experiment"] for other in self.groups if other.name == group.name}
        return group.name if len(same) == 1 else group.settings["experiment"]

    def label(self, group: Group) -> str:
        """Return the experiment and what sets the group apart, in one line."""
        parts = [f"{name} {shown_value(group.settings[name])}" for name in self.columns if name in group.settings]
        return ", ".join([self.title(group), *parts])


def compare(runs: Iterable[Run]) -> list[Block]:
    """Group runs by all their settings but the seed, and the groups by their data and split.

    A run that ended before it had read its data is counted to the group of the same experiment and fields, where there
    is just one.
    """
    groups: dict[str, list[Run]] = defaultdict(list)
    asked: dict[str, set[str]] = defaultdict(set)
    early: list[Run] = []
    for run in runs:
        if run.data:
            key = _group_key(run)
            groups[key].append(run)
            asked[_key(_asked(run))].add(key)
        else:
            early.append(run)
    for run in early:
        same = asked[_key(_asked(run))]
        groups[next(iter(same)) if len(same) == 1 else _group_key(run)].append(run)
    blocks: dict[str, list[Group]] = defaultdict(list)
    for found in groups.values():
        blocks[_key(comparable_by(found[0]))].append(Group(settings(found[0]), found))
    return sorted(map(Block, blocks.values()), key=lambda block: (not block.data, block.groups[0].name))


def settings(run: Run) -> dict[str, Any]:
    """Return all that a group's runs have in common, flat.

    The metric that chose the best checkpoint, and which way it is better, are read from there: `monitor` was not always
    a field. The precision is the one that was used, which `--precision auto` leaves to the machine; folds are those of
    a cross-validation, whose numbers are means over them; of an ensemble's members those of their average; of an
    ablation the means of its full recipe. A search is a group of its own, and has the fields of the default.
    """
    record, data = run.record, run.data
    found = {
        "data": data.get("source"),
        "fingerprint": data.get("fingerprint"),
        "split": data.get("split"),
        "weights_source": record.get("weights", {}).get("source"),
        "precision_used": record.get("precision"),
        "folds": record.get("folds"),
        "ensemble": record.get("ensemble"),
        "search": f"best of {record['reason']}" if "search" in record and run.best else None,
        "ablation": record.get("ablation", {}).get("without"),
        "monitor": run.best.get("name"),
        "mode": run.mode if run.best else None,
    }
    return _asked(run) | {name: value for name, value in found.items() if value is not None}


def _asked(run: Run) -> dict[str, Any]:
    """Return the experiment and those of its fields that tell runs apart. A field that is None is as if not there, so
    that runs from before it was a field stay in their group; loggers change no number."""
    fields = flat(run.record["fields"], without=("seed", "monitor", "mode", "logger"))
    return {"experiment": run.record["experiment"]} | {k: v for k, v in fields.items() if v is not None}


def flat(fields: Mapping[str, Any], *, without: Sequence[str] = ()) -> dict[str, Any]:
    """Return nested fields with dotted names, as they are on the command line."""
    found: dict[str, Any] = {}
    for name, value in fields.items():
        if name not in without:
            found |= {f"{name}.{k}": v for k, v in flat(value).items()} if isinstance(value, dict) else {name: value}
    return found


def comparable_by(run: Run) -> dict[str, Any]:
    """Return what two runs must share for their numbers to be compared: the data, and which of them are val and test.

    The ids of large splits are too much to read for a table; their sizes stand for them (`diff` reads the ids).
    """
    sizes = run.data.get("sizes", {})
    return {name: run.data.get(name) for name in ("fingerprint", "split")} | {
        split: sizes.get(split) for split in ("val", "test")
    }


def _group_key(run: Run) -> str:
    return _key([settings(run), comparable_by(run)])


def differing(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the settings that are not the same everywhere, or not everywhere there."""
    several = list(found)
    names = dict.fromkeys(name for one in several for name in one if name != "experiment")
    return [name for name in names if len({_key(one.get(name, "<not there>")) for one in several}) > 1]


def shown_value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _best_first(group: Group) -> tuple[bool, str, float, str]:
    if group.best is None:
        return True, "", 0.0, group.name
    mean = group.estimates[f"best {group.monitored}"].mean
    return False, group.monitored, mean if group.best.mode == "min" else -mean, group.name
