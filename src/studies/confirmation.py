"""Whether the best setting of a search is better than the default: both trained over seeds that chose nothing."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from src.configs import shown
from src.configs.changes import with_fields
from src.experiment import Experiment
from src.runs import records
from src.runs.compare.groups import estimate, flat
from src.runs.only_writer import AtWork
from src.studies.earlier_runs import asked
from src.studies.trials import of_the_machine, train
from src.terminal import console
from src.training.failures import explain

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class Job:
    """A run of the confirmation."""

    name: str
    """best-<seed> or default-<seed>, its directory."""
    experiment: Experiment


def jobs(experiment: Experiment, setting: Mapping[str, Any], seeds: Sequence[int]) -> list[Job]:
    """Return the runs of the confirmation, the two of a seed one after the other."""
    both = {"best": with_fields(experiment, setting), "default": experiment}
    return [Job(f"{name}-{seed}", replace(one, seed=seed)) for seed in seeds for name, one in both.items()]


def keep_apart(folder: Path, trials: Sequence[FrozenTrial], best: FrozenTrial) -> None:
    """Give runs of a setting that was the best before there were more trials another name: trial-<n>-seed-<seed>."""
    for child in folder.glob("best-*"):
        fields = flat(asked(records.load(child))) if (child / "run.json").is_file() else {}
        if not fields or has(fields, best.params):
            continue
        number = next((one.number + 1 for one in trials if one.params and has(fields, one.params)), 0)
        child.rename(folder / f"trial-{number}-seed-{child.name.removeprefix('best-')}")


def has(fields: Mapping[str, Any], setting: Mapping[str, Any]) -> bool:
    return all(fields.get(name) == value for name, value in setting.items())


def confirm(folder: Path, wanted: Sequence[Job], first: Path) -> None:
    """Train and test what no other process does; return when all is done or has failed.

    Args:
        folder: the search's directory.
        wanted: all runs.
        first: a run of the search, whose data these have to be.
    """
    test = "test" in records.load(first)["data"]["sizes"]
    for job in wanted:
        child = folder / job.name
        child.mkdir(exist_ok=True)
        try:
            with FileLock(child / "claim", timeout=0):
                if is_done(child):
                    continue
                train(job.experiment, child, first=first, test=test)
                show(records.load(child), job.name)
        except (Timeout, AtWork):  # another process does
            continue
        except Exception as error:
            if of_the_machine(error):
                raise
            console.line(job.name, f"failed: {explain(error)}")


def is_done(run: Path) -> bool:
    """Return whether a run is done; one is tested before it is."""
    return (run / "run.json").is_file() and records.load(run)["state"] == "done"


def show(record: Mapping[str, Any], name: str) -> None:
    best, metrics = record["best"], record["metrics"]
    tested = tested_as(best["name"])
    test = f"  {tested} {shown.metric(metrics[tested])}" if tested in metrics else ""
    console.line(name, f"best {best['name']} {shown.metric(best['value'])}{test}  {record['wall_s']:.1f} s")


def tested_as(monitor: str) -> str:
    """Return the test metric that a validation metric stands for."""
    return f"test/{monitor.partition('/')[2]}" if monitor.startswith("val/") else monitor


def result(folder: Path, seeds: Sequence[int], monitor: str) -> dict[str, Any]:
    """Return what the search's record says of the confirmation; nothing where no seed has both runs.

    Metrics are means over the seeds for which both settings have a run that is done; `differences` are of the best less
    the default, paired by seed, with Student's 95 % interval of their mean.
    """
    pairs = {
        seed: [records.load(folder / f"{name}-{seed}") for name in ("best", "default")]
        for seed in seeds
        if all(is_done(folder / f"{name}-{seed}") for name in ("best", "default"))
    }
    if not pairs:
        return {}
    values = [[one["metrics"] | {f"best {monitor}": one["best"]["value"]} for one in pair] for pair in pairs.values()]
    names = [name for name in values[0][0] if all(name in one for pair in values for one in pair)]
    differences = {name: [pair[0][name] - pair[1][name] for pair in values] for name in names}
    means = [{name: statistics.mean(pair[which][name] for pair in values) for name in names} for which in (0, 1)]
    tested = tested_as(monitor)
    return {
        "seeds": list(pairs),
        "metric": tested if tested in names else f"best {monitor}",
        "best": means[0],
        "default": means[1],
        "differences": {name: estimate(found)._asdict() for name, found in differences.items()},
        "wall_s": round(sum(one["wall_s"] for pair in pairs.values() for one in pair), 1),
    }


def verdict(found: Mapping[str, Any], mode: str) -> str:
    """Return in a sentence whether the best setting is better than the default, and how sure that is."""
    name, difference = found["metric"], found["differences"][found["metric"]]
    means = f"{shown.metric(found['best'][name])} against {shown.metric(found['default'][name])} of the default"
    gain = f"{difference['mean']:+.4g}"
    if difference["low"] is None:
        return f"{name} {means}, {gain}: three seeds or more would tell whether that is chance"
    low, high = difference["low"], difference["high"]
    interval = f"95 % interval {low:+.4g} to {high:+.4g} over {difference['n']} seeds"
    if low <= 0 <= high:
        return f"{name} {means}, {gain}; no gain is shown: the {interval} has 0 in it"
    better = (difference["mean"] > 0) == (mode == "max")
    return f"{name} {means}, {gain}; {'a gain' if better else 'WORSE than the default'}: {interval}"


def noise(found: Mapping[str, Any], best: Mapping[str, Any]) -> str:
    """Return how much of the best trial's value was the luck of having been chosen."""
    mean = found["best"][f"best {best['name']}"]
    worse = best["value"] - mean if best["mode"] == "max" else mean - best["value"]
    said = f"the best trial had {best['name']} {shown.metric(best['value'])}, its setting has {shown.metric(mean)}"
    luck = f"{worse:.4g} of it was luck of the choice" if worse > 0 else "nothing of it was luck of the choice"
    return f"{said} over {len(found['seeds'])} other seeds: {luck}"
