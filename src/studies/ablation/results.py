"""What an ablation's runs say: paired differences over the seeds, how sure they are, time and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from src.runs import records
from src.runs.compare.groups import Estimate, estimate, is_share

COSTS = {"wall_s": "time, s", "gpu_memory_gb": "GPU memory, GB"}
"""What a run costs, as far as its record says. The memory of the process is no cost of a run: all share the process."""
ROUNDING = 1e-6
"""Relative size of differences that is rounding: metrics are float32."""
FEWEST = 3
"""Seeds that make a test or an interval: of two runs, the interval would be 13 times as wide as they are apart."""


@dataclass(frozen=True)
class Figure:
    """A metric or a cost of a variant's runs."""

    values: Estimate
    """Over the seeds that are done."""
    difference: Estimate | None = None
    """Variant minus full recipe, over the seeds that both have done; None for the full recipe itself."""
    p: float | None = None
    """Two-sided, of no difference, by the paired t-test; None for fewer than three seeds or equal differences."""
    p_holm: float | None = None
    """The same, for all variants together: see `holm`."""
    beyond: Estimate | None = None
    """Of two fields: the difference that is more than the sum of what each makes alone, their interaction."""


@dataclass(frozen=True)
class Row:
    """The full recipe or a variant of it."""

    without: tuple[str, ...]
    """Fields that are left out; none in the full recipe."""
    command: str
    """Runs it alone, with the seed to be added."""
    seeds: tuple[int, ...]
    """Those that are done."""
    figures: dict[str, Figure] = field(default_factory=dict)
    """By metric, 'val/acc', or cost, 'wall_s'. The first is what chose the checkpoints."""

    def to_json(self) -> dict[str, Any]:
        figures = {
            name: {
                part: value._asdict() if isinstance(value, Estimate) else value
                for part in ("values", "difference", "p", "p_holm", "beyond")
                if (value := getattr(found, part)) is not None
            }
            for name, found in self.figures.items()
        }
        return asdict(replace(self, figures={})) | {"figures": figures}


Found = Mapping[tuple[str, ...], Mapping[int, Mapping[str, float]]]
"""Fields that are left out -> seed -> figure -> value."""


def figures_of(run: Path) -> dict[str, float]:
    """Return the figures of a run that is done: the best monitored validation metric, the same metric on test where
    that was read, and the costs; none of another run."""
    if not (run / "run.json").is_file() or (record := records.load(run))["state"] != "done":
        return {}
    monitored = record.get("best", {}).get("name", "")
    found = {monitored: record["best"]["value"]} if monitored else {}
    tested = f"test/{monitored.removeprefix('val/')}"
    found |= {tested: record["metrics"][tested]} if tested in record.get("metrics", {}) else {}
    costs = {"wall_s": record.get("wall_s"), "gpu_memory_gb": record.get("peak_memory", {}).get("gpu")}
    costs["gpu_memory_gb"] = costs["gpu_memory_gb"] and costs["gpu_memory_gb"] / 1e9
    return found | {name: value for name, value in costs.items() if value is not None}


def rows_of(found: Found, commands: Mapping[tuple[str, ...], str]) -> list[Row]:
    """Return a row for the full recipe, `()`, and for each variant, in their order; differences are variant minus full.

    Args:
        found: the figures of the runs that are done.
        commands: by the same keys.
    """
    apart = {key: _apart(found[()], of) for key, of in found.items()}
    names = list(dict.fromkeys(name for of in found.values() for one in of.values() for name in one))
    rows = {key: Row(key, commands[key], tuple(found[key])) for key in found}
    for name in sorted(names, key=lambda one: one in COSTS):
        share = is_share(name)
        for key, row in rows.items():
            values = [one[name] for one in found[key].values() if name in one]
            if values:
                row.figures[name] = _figure(key, name, estimate(values, share=share), apart)
        tested = {key: p for key, row in rows.items() if name in row.figures and (p := row.figures[name].p) is not None}
        for key, p in zip(tested, holm(list(tested.values())), strict=True):
            rows[key].figures[name] = replace(rows[key].figures[name], p_holm=p)
    return list(rows.values())


def _apart(
    full: Mapping[int, Mapping[str, float]], of: Mapping[int, Mapping[str, float]]
) -> dict[str, dict[int, float]]:
    """Return the differences from the full recipe, by figure and seed."""
    names = dict.fromkeys(name for one in of.values() for name in one)
    both = [seed for seed in of if seed in full]
    return {
        name: {seed: of[seed][name] - full[seed][name] for seed in both if name in of[seed] and name in full[seed]}
        for name in names
    }


def _figure(key: tuple[str, ...], name: str, values: Estimate, apart: Mapping[Any, Mapping[str, Any]]) -> Figure:
    differences = apart[key].get(name, {})
    if not key or not differences:
        return Figure(values)
    rounding = ROUNDING * abs(values.mean)
    found = Figure(values, difference(list(differences.values()), rounding))
    if name in COSTS:  # which depend on what else the machine does
        return found
    found = replace(found, p=p_of(list(differences.values()), rounding))
    if len(key) > 1:
        singles = [apart[one,].get(name, {}) for one in key]
        common = [seed for seed in differences if all(seed in one for one in singles)]
        beyond = [differences[seed] - sum(one[seed] for one in singles) for seed in common]
        found = replace(found, beyond=difference(beyond, rounding) if beyond else None)
    return found


def difference(values: Sequence[float], rounding: float = 0.0) -> Estimate:
    """Return mean, deviation and Student's interval of paired differences; no interval where they are all the same but
    for rounding, as those of an accuracy on few examples may be: that is no certainty."""
    found = estimate(values)
    return found._replace(low=None, high=None) if np.ptp(values) <= rounding else found


def p_of(values: Sequence[float], rounding: float = 0.0) -> float | None:
    """Return the two-sided p-value of paired differences by the t-test; None for fewer than three, or where they are
    all the same but for rounding and not 0."""
    if len(values) < FEWEST or not np.isfinite(values).all():
        return None
    if np.ptp(values) <= rounding:
        return 1.0 if abs(values[0]) <= rounding else None
    found: Any = stats.ttest_1samp(values, 0)
    return float(found.pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values adjusted for how many they are, by Holm's step-down method: the chance of even one false finding
    among those below 0.05 is 5 % at the most (Holm 1979, Scandinavian Journal of Statistics 6, 65-70)."""
    order, count = np.argsort(p), len(p)
    adjusted = np.empty(count)
    adjusted[order] = np.maximum.accumulate((count - np.arange(count)) * np.asarray(p)[order])
    return np.minimum(adjusted, 1).tolist()
