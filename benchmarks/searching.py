"""A search against its own trials: what it costs besides them, two workers against one, and what pruning saves.

    python benchmarks/searching.py overhead
    python benchmarks/searching.py workers --rounds 3
    python benchmarks/searching.py pruning           # an hour on 2 cores

`overhead` is the time of a search in one process that no run's record has, a trial. `workers` counts trials an hour,
from the first trial's beginning to the last one's end. `pruning` does each search twice, from the same seeds, and
compares the optimiser steps of all trials and the best validation value.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report
from benchmarks.report import Row
from src.configs.changes import with_fields
from src.configs.search import Search, log, uniform
from src.experiment import Experiment
from src.loading import load
from src.runs import records
from src.runs.compare.groups import estimate
from src.studies.search import SearchOptions, search, study_of
from src.training.trainer import quieten


@dataclass(frozen=True)
class Searched:
    """A search that is done."""

    run: Path
    seconds: float

    @property
    def children(self) -> list[dict[str, object]]:
        return [records.load(path.parent) for path in self.run.glob("trial-*/run.json")]

    @property
    def best(self) -> float:
        return records.load(self.run)["best"]["value"]

    def steps(self) -> int:
        """Return the optimiser steps of all trials, as far as metrics.csv tells of them."""
        runs = [path.parent for path in self.run.glob("trial-*/run.json")]
        return sum(max(step for _, step, _, _ in records.metrics(run)) + 1 for run in runs)


def digits(seed: int) -> tuple[Experiment, Search]:
    experiment = load("experiments/digits.py:SoftmaxRegression")()
    experiment = with_fields(experiment, {"source": "sklearn", "seed": seed, "logger": ("csv",)})
    space = {"optim.lr": log(1e-4, 1.0), "optim.weight_decay": log(1e-4, 1.0), "optim.warmup": uniform(0.0, 0.5)}
    return experiment, Search(space, trials=20).checked(experiment)


def ames(seed: int) -> tuple[Experiment, Search]:
    experiment = load("experiments/house_prices.py:HousePricesMLP")()
    experiment = with_fields(experiment, {"seed": seed, "logger": ("csv",)})
    space = {"optim.lr": log(1e-4, 1e-1), "optim.weight_decay": log(1e-4, 1.0), "mlp.dropout": uniform(0.0, 0.5)}
    return experiment, Search(space, trials=20).checked(experiment)


@contextlib.contextmanager
def own_runs() -> Iterator[None]:
    """Have runs in a folder of their own for a while, and nothing printed, by no process."""
    sys.stdout.flush()
    before, printed = os.environ.get("LEYDEN_RUNS"), os.dup(1)
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.environ["LEYDEN_RUNS"] = folder
        os.dup2(nowhere.fileno(), 1)
        try:
            yield
        finally:
            sys.stdout.flush()
            os.dup2(printed, 1)
            os.close(printed)
            os.environ.pop("LEYDEN_RUNS")
            if before is not None:
                os.environ["LEYDEN_RUNS"] = before


def searched(experiment: Experiment, wanted: Search, workers: int = 1) -> Searched:
    began = time.monotonic()
    run = search(experiment, wanted, SearchOptions(workers=workers))
    return Searched(run, time.monotonic() - began)


def overhead(rounds: int) -> list[Row]:
    job = "seconds of a search a trial, besides the run; in process, 20 trials"
    seconds: list[float] = []
    for seed in range(rounds + 1):
        with own_runs():
            experiment, wanted = digits(seed)
            found = searched(replace(experiment, max_epochs=2), wanted)
            alone = sum(float(str(one["wall_s"])) for one in found.children)
            seconds.append((found.seconds - alone) / wanted.trials)
    seconds = seconds[1:]  # the first imports what is needed
    middle = statistics.median(seconds)
    return [Row(job, "Leyden", "s", middle, (min(seconds), max(seconds)), mark=0.3, most=True)]


def workers(rounds: int) -> list[Row]:
    job = "trials an hour, digits, 20 trials"
    rates: dict[int, list[float]] = {1: [], 2: []}
    started: list[float] = []
    for seed in range(rounds):
        for count in rates:
            with own_runs():
                experiment, wanted = digits(seed)
                found = searched(experiment, replace(wanted, pruner="none"), count)
                trials = study_of(found.run).get_trials()
                times = [one.datetime_start for one in trials], [one.datetime_complete for one in trials]
                spent = (max(filter(None, times[1])) - min(filter(None, times[0]))).total_seconds()
                rates[count].append(3600 * len(trials) / spent)
                started += [found.seconds - spent] if count > 1 else []
    ratio, interval = report.ratio(rates[2], rates[1])
    note = f"processes start in {statistics.median(started):.0f} s"
    one, two = (statistics.median(rates[count]) for count in rates)
    ranges = [(min(rate), max(rate)) for rate in rates.values()]
    return [
        Row(job, "1 worker", "trials/h", one, ranges[0]),
        Row(job, "2 workers", "trials/h", two, ranges[1], "1 worker", ratio, interval, 1.7),
        Row(job, "2 workers' beginning", note=note),
    ]


def pruning(rounds: int) -> list[Row]:
    found: list[Row] = []
    for name, task in (("digits", digits), ("Ames", ames)):
        saved: list[float] = []
        scores: list[tuple[float, float]] = []
        monitor, sign = "", 1
        for seed in range(rounds):
            both: list[Searched] = []
            with own_runs():
                for pruner in ("none", "median"):
                    experiment, wanted = task(seed)
                    monitor, sign = experiment.monitor, 1 if experiment.mode == "max" else -1
                    both.append(searched(experiment, replace(wanted, pruner=pruner)))
                saved.append(1 - both[1].steps() / both[0].steps())
                scores.append((both[0].best, both[1].best))
            print(f"{name} seed {seed}: {saved[-1]:.1%} of the steps saved, {monitor} {scores[-1]}", flush=True)
        found += pruned(f"pruning by the median, {name}, 20 trials, {rounds} searches", monitor, sign, saved, scores)
    return found


def pruned(
    job: str, monitor: str, sign: int, saved: Sequence[float], scores: Sequence[tuple[float, float]]
) -> list[Row]:
    """Return the share of steps that was saved, and how the best values differ: above 0 where pruning's is better."""
    gains = [sign * (two - one) for one, two in scores]
    difference = estimate(gains)
    interval = "" if difference.low is None else f", 95 % interval {difference.low:+.4g} to {difference.high:+.4g}"
    without, with_ = (statistics.mean(both) for both in zip(*scores, strict=True))
    note = f"{monitor} {with_:.5g} with pruning, {without:.5g} without; better by {difference.mean:+.4g}{interval}"
    percent = [100 * one for one in saved]
    return [
        Row(job, "steps saved", "%", statistics.median(percent), (min(percent), max(percent)), mark=40),
        Row(job, "best value", note=note),
    ]


def main() -> None:
    flags = report.options(__doc__ or "", ["overhead", "workers", "pruning"])
    quieten()
    jobs = {"overhead": overhead, "workers": workers, "pruning": pruning}
    report.show(jobs[flags.job](flags.rounds), flags.json)


if __name__ == "__main__":
    main()
