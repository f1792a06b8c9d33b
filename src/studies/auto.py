"""A good model of any data in a given time: what the house has is tried, what is best is averaged."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from src.callbacks import Interrupted
from src.configs import shown
from src.configs.errors import InputError
from src.datamodules import DataModule, Fold
from src.experiment import Experiment
from src.runs import records
from src.runs.compare.runs import read
from src.runs.records import Record
from src.studies import auto_summary
from src.studies.attempts import Attempt, Candidate, choose, for_folds
from src.studies.earlier_runs import trial_of, why_not
from src.studies.ensemble import average, evaluate_average, member_columns
from src.studies.journal import lock_of, open_study
from src.studies.multi_run import parent
from src.studies.trials import Trials, of_the_machine, output_to, train
from src.studies.workers import Deadline
from src.terminal import console
from src.training.build import build_data
from src.training.failures import explain
from src.training.options import RunOptions
from src.training.runner import run as run_again

END = 0.03
"""Share of the time that is kept for choosing, averaging and evaluating; 4 seconds at the least."""
FIRST = 0.8
"""Share of the time left that the models not tried yet divide among themselves, each for its first attempt."""
PATIENCE = 2
"""Shares after which a first attempt is stopped. Its training ends after one, but it may take long to begin."""
ROUND = 4
"""Settings that each model tries between two halvings of the models."""
SEARCHED = 0.5
"""Share of the time left after the first attempts for other settings; the rest is for folds."""
FOLDS = 5
TOO_SHORT = "--max-time: no model came to its end in so short a time. Give it more."


def auto(candidates: Sequence[Experiment], seconds: float, *, began: float | None = None, test: bool = False) -> Path:
    """Try models and settings until the time is over; return the directory of the ensemble of the best.

    Each candidate runs as it stands, the quickest first. The better half, by successive halving, then tries settings
    of its `search` (Karnin et al. 2013; https://proceedings.mlr.press/v28/karnin13.html). What is best is trained again
    on folds. What is averaged, and how much each counts, is chosen by `select` on what no run was trained on.

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
                datamodule = data_of(all_done(tried))
                divisible = datamodule.loaded.whole is not None  # else the user has said what validates
                attempt_settings(tried, until - divisible * (1 - SEARCHED) * (until - time.time()))
                if not (divisible and attempt_folds(tried, datamodule, until)):
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
        InputError: all have failed, or none came to its end.
    """
    errors: list[str] = []
    for number, one in enumerate(tried):
        began, default = time.time(), one.folder / "default"
        share = FIRST * (until - began) / (len(tried) - number)
        one.experiment = replace(one.experiment, max_time=clock(share))
        one.folder.mkdir()
        limit = Deadline(began + PATIENCE * share if PATIENCE * share < until - began else None)
        try:
            with limit:
                train(one.experiment, default)
        except Exception as error:
            if of_the_machine(error):
                raise
            errors.append(explain(error))
            console.line("failed", f"{one.name}: {errors[-1]}")
            continue
        if limit.over:
            console.line("stopped", f"{one.name}: not done after {time.time() - began:.0f} s")
            continue
        one.add(default, {}, began)
        record = records.load(default)
        reached = f"{record['best']['name']} {shown.metric(record['best']['value'])}"
        console.line("tried", f"{one.name}: {reached}, {one.seconds:.1f} s, {record['reason']}")
    if not any(one.done for one in tried):
        raise InputError(f"all models have failed: {'; '.join(dict.fromkeys(errors))}" if errors else TOO_SHORT)


def attempt_settings(tried: Sequence[Candidate], until: float) -> None:
    """Try other settings of the better half of the candidates that say which, then of the better half of these."""
    left = [one for one in tried if one.done and type(one.experiment).search is not None]
    while left := sorted((one for one in left if can_go_on(one, until)), key=lambda one: one.least):
        left = left[: math.ceil(len(left) / 2)]
        for _ in range(ROUND):
            for one in [one for one in left if can_go_on(one, until)]:
                attempt_setting(one)


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
        one.trials = Trials(one.folder, one.experiment, search, model=one.name)
    began, taken = time.time(), one.trials.take()
    if taken is not None:
        one.trials.do(*taken)
        one.add(one.folder / f"trial-{taken[0].number + 1}", taken[1], began)


def attempt_folds(tried: Sequence[Candidate], datamodule: DataModule, until: float) -> int:
    """Train what would be averaged again, once a fold on the rest of train and val, as far as there is time.

    Returns:
        How many settings were.
    """
    done, count = all_done(tried), 0
    for run in for_folds(datamodule, done):
        if time.time() + FOLDS * done[run].seconds > until:
            continue
        folds = [run.with_name(f"{run.name}-fold-{number}") for number in range(1, FOLDS + 1)]
        try:
            for number, folder in enumerate(folds, 1):
                train(done[run].experiment, folder, fold=Fold(number, FOLDS, held_out="val"))
        except Exception as error:
            if of_the_machine(error):
                raise
            console.line("failed", f"{run.parent.name}/{run.name} on folds: {explain(error)}")
            continue
        (owner,) = [one for one in tried if run in one.done]
        owner.done[run] = done[run]._replace(folds=tuple(folds))
        count += 1
    if count:
        console.line("folds", f"{count} settings trained again, once a fold on the rest of train and val")
    return count


def all_done(tried: Sequence[Candidate]) -> dict[Path, Attempt]:
    """Return all runs that are done, the best first."""
    done = {run: attempt for one in tried for run, attempt in one.done.items()}
    return dict(sorted(done.items(), key=lambda item: item[1].loss))


def data_of(done: Mapping[Path, Attempt]) -> DataModule:
    """Return the data of the best run, set up."""
    return build_data(next(iter(done.values())).experiment.resolve())


def finish(record: Record, tried: Sequence[Candidate], began: float, *, test: bool) -> None:
    """Choose what is averaged, evaluate it, write the record, and show the leaderboard."""
    done = all_done(tried)
    if not done:
        raise InputError(TOO_SHORT)
    datamodule = data_of(done)
    shares = choose(datamodule, done)
    parts = {run: done[run].folds or (run,) for run in shares}
    members = [(member, shares[run] / len(runs), done[run]) for run, runs in parts.items() for member in runs]
    runs, counts = [member for member, _, _ in members], [share for _, share, _ in members]
    for number, run in enumerate(runs, 1):
        place = record.folder / f"member-{number}"
        place.symlink_to(run.relative_to(record.folder), target_is_directory=True)
    best = next(iter(done.values())).experiment.resolve()
    record.update(experiment=best.dotted_name(), fields=best.to_json(), ensemble=len(runs), shares=counts)
    unseen = [member_columns(one, "val", datamodule) for one in parts.values()]
    averages = {"val": average(unseen, [*shares.values()])}
    began_test = time.time()
    if test:
        for member, _, attempt in members:
            with open(member / "output.txt", "a", encoding="utf-8", buffering=1) as file, output_to(file):
                run_again(attempt.experiment, RunOptions(resume=member, test=True))
        averages["test"] = average([member_columns([one], "test", datamodule) for one in runs], counts)
    tested = time.time() - began_test
    evaluate_average(datamodule, record, runs, averages, alike=False)
    wall_s = round(time.time() - began - tested, 1)
    record.update(reason=f"{len(done)} runs of {len(tried)} models", wall_s=wall_s)
    auto_summary.after(record, done, shares)


def clock(seconds: float) -> str:
    """Return a time as Lightning reads it, DD:HH:MM:SS."""
    minutes, second = divmod(max(1, int(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours // 24:02}:{hours % 24:02}:{minute:02}:{second:02}"
