"""A good model of any data in a given time: what the house has is tried, what is best is averaged."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from src.callbacks import Interrupted
from src.configs import shown
from src.configs.changes import with_fields
from src.configs.errors import InputError
from src.datamodules import DataModule
from src.experiment import Experiment
from src.runs import records
from src.runs.compare.runs import read
from src.runs.records import Record
from src.studies import auto_summary
from src.studies.earlier_runs import trial_of, why_not
from src.studies.ensemble import evaluate_average, member_columns
from src.studies.journal import lock_of, open_study
from src.studies.multi_run import parent
from src.studies.selection import loss, select
from src.studies.trials import Trials, of_the_machine, output_to, train
from src.studies.workers import Deadline
from src.tasks.objectives import default_objective
from src.terminal import console
from src.training.build import build_data
from src.training.failures import explain
from src.training.options import RunOptions
from src.training.runner import run as run_again

END = 0.03
"""Share of the time that is kept for choosing, averaging and evaluating; 4 seconds at the least."""
FIRST = 0.8
"""Share of the time left that the models not tried yet divide among themselves, each for its first attempt."""
ROUND = 4
"""Settings that each model tries between two halvings of the models."""
MOST = 25
"""Runs, the best, of which the ensemble is chosen."""


class Attempt(NamedTuple):
    """A run that is done."""

    setting: dict[str, Any]
    """Fields that are not as the experiment has them."""
    loss: float
    """Of what it predicts of the validation split; of one kind for all models."""


@dataclass
class Candidate:
    """A model that is tried, with its default setting first."""

    experiment: Experiment
    folder: Path
    seconds: float = 0.0
    """That its last run took."""
    trials: Trials | None = None
    done: dict[Path, Attempt] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return type(self.experiment).__name__

    @property
    def least(self) -> float:
        """The least loss of its runs."""
        return min(attempt.loss for attempt in self.done.values())

    def add(self, run: Path, setting: dict[str, Any], began: float) -> None:
        """Count in a run that began at a time, as far as it is done."""
        self.seconds = time.time() - began
        if (run / "run.json").is_file() and (record := records.load(run))["state"] == "done":
            self.done[run] = Attempt(setting, loss_of(run, record))


def auto(candidates: Sequence[Experiment], seconds: float, *, began: float | None = None, test: bool = False) -> Path:
    """Try models and settings until the time is over; return the directory of the ensemble of the best.

    Each candidate runs as it stands, the quickest first. The better half, by successive halving, then tries settings
    of its `search` (Karnin et al. 2013; https://proceedings.mlr.press/v28/karnin13.html). What is averaged, and how
    much each counts, is chosen by `select` on the validation split.

    Args:
        candidates: experiments on the same data, those that take least time first.
        seconds: from `began` on, for all but the test.
        began: `time.time()` at the start; now unless given.
        test: read the test split, once, with what was chosen.

    Raises:
        InputError: no candidate came to its end in the time, or all have failed.
        Interrupted: by a signal. The runs that were done by then are averaged all the same.
    """
    began = time.time() if began is None else began
    until = began + seconds - max(4.0, END * seconds)
    names = [type(one).__name__ for one in candidates]
    with parent(candidates[0], None, name="Auto", auto={"seconds": seconds, "candidates": names}) as record:
        tried = [Candidate(one, record.folder / name) for one, name in zip(candidates, names, strict=True)]
        console.line("run", str(record.folder))
        stopped = None
        try:
            with Deadline(until):
                attempt_each(tried, until)
                attempt_settings(tried, until)
        except Interrupted as signal:
            if not any(one.done for one in tried):
                raise
            stopped = signal
            console.line("stopped", "averaging what is there (again: at once)")
        finish(record, tried, began, test=test and stopped is None)
    if stopped is not None:
        raise stopped
    return record.folder


def attempt_each(tried: Sequence[Candidate], until: float) -> None:
    """Run each candidate as it stands, within its share of the time.

    Raises:
        InputError: all have failed.
    """
    errors: list[str] = []
    for number, one in enumerate(tried):
        began, default = time.time(), one.folder / "default"
        one.experiment = replace(one.experiment, max_time=clock(FIRST * (until - began) / (len(tried) - number)))
        one.folder.mkdir()
        try:
            train(one.experiment, default)
        except Exception as error:
            if of_the_machine(error):
                raise
            errors.append(explain(error))
            console.line("failed", f"{one.name}: {errors[-1]}")
            continue
        one.add(default, {}, began)
        record = records.load(default)
        reached = f"{record['best']['name']} {shown.metric(record['best']['value'])}"
        console.line("tried", f"{one.name}: {reached}, {one.seconds:.1f} s, {record['reason']}")
    if not any(one.done for one in tried):
        raise InputError(f"all models have failed: {'; '.join(dict.fromkeys(errors))}")


def attempt_settings(tried: Sequence[Candidate], until: float) -> None:
    """Try other settings of the candidates that say which, of the best half of them after each round."""
    left = [one for one in tried if one.done and type(one.experiment).search is not None]
    while left := [one for one in left if can_go_on(one, until)]:
        for _ in range(ROUND):
            for one in [one for one in left if can_go_on(one, until)]:
                attempt_setting(one)
        left = sorted(left, key=lambda one: one.least)[: max(1, len(left) // 2)]


def can_go_on(one: Candidate, until: float) -> bool:
    """Return whether there is time for another run of a candidate, and a setting left."""
    if time.time() + one.seconds > until:
        return False
    return one.trials is None or len(one.trials.study.get_trials(deepcopy=False)) <= one.trials.search.trials


def attempt_setting(one: Candidate) -> None:
    """Run a trial of a candidate's search; its default is the first that is known."""
    search = type(one.experiment).search
    assert search is not None
    if one.trials is None:
        with lock_of(one.folder):
            study = open_study(one.folder, "minimize" if one.experiment.mode == "min" else "maximize")
        default = read(one.folder / "default")
        if not why_not(default, one.experiment, search):  # else it is outside of the space
            study.add_trial(trial_of(default, "default", search, one.experiment.monitor))
        one.trials = Trials(one.folder, one.experiment, search)
    began, taken = time.time(), one.trials.take()
    if taken is not None:
        one.trials.do(*taken)
        one.add(one.folder / f"trial-{taken[0].number + 1}", taken[1], began)


def loss_of(run: Path, record: dict[str, Any]) -> float:
    """Return the loss of a run's predictions of the validation split; see `selection.loss`."""
    spec = records.spec_of(record)
    rows = pd.read_csv(run / "predictions_val.csv", dtype=str, keep_default_na=False)
    predicted, target = default_objective(spec).read(rows)
    return loss(spec.target.kind, decisive(predicted), target)


def decisive(predicted: dict[str, np.ndarray]) -> np.ndarray:
    """Return the probabilities, or the numbers, of predictions."""
    return predicted["prob"] if "prob" in predicted else predicted["prediction"]


def finish(record: Record, tried: Sequence[Candidate], began: float, *, test: bool) -> None:
    """Choose what is averaged, evaluate it, write the record, and show the leaderboard."""
    by_run = {run: one for one in tried for run in one.done}
    if not by_run:
        raise InputError("--max-time: no model came to its end in so short a time. Give it more.")
    ranked = sorted(by_run, key=lambda run: by_run[run].done[run].loss)
    best = by_run[ranked[0]].experiment.resolve()
    datamodule = build_data(best)
    shares = shares_of(datamodule, ranked[:MOST])
    members = sorted(shares, key=lambda run: -shares[run])
    for number, member in enumerate(members, 1):
        place = record.folder / f"member-{number}"
        place.symlink_to(member.relative_to(record.folder), target_is_directory=True)
    counts = [shares[one] for one in members]
    record.update(experiment=best.dotted_name(), fields=best.to_json(), ensemble=len(members), shares=counts)
    evaluate_average(datamodule, record, members, ("val",), counts)
    reason = f"{len(by_run)} runs of {len(tried)} models"
    record.update(reason=reason, wall_s=round(time.time() - began, 1))
    rows = [auto_summary.Row(run, shares.get(run, 0.0), *by_run[run].done[run]) for run in ranked]
    auto_summary.after(record, rows)
    if test:
        for member in members:
            with open(member / "output.txt", "a", encoding="utf-8", buffering=1) as file, output_to(file):
                one = by_run[member]
                run_again(with_fields(one.experiment, one.done[member].setting), RunOptions(resume=member, test=True))
        evaluate_average(datamodule, record, members, ("val", "test"), counts)
        auto_summary.scores(record, "test")


def shares_of(datamodule: DataModule, runs: Sequence[Path]) -> dict[Path, float]:
    """Return the share of each run in the ensemble, without those that have none."""
    objective = default_objective(datamodule.spec)
    columns = [member_columns(run, "val", datamodule, objective) for run in runs]
    shares = select(objective.spec.target.kind, [decisive(one) for one in columns], columns[0]["target"])
    return {run: share for run, share in zip(runs, shares, strict=True) if share}


def clock(seconds: float) -> str:
    """Return a time as Lightning reads it, DD:HH:MM:SS."""
    minutes, second = divmod(max(1, int(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours // 24:02}:{hours % 24:02}:{minute:02}:{second:02}"
