"""The trials of a search, as one process takes and runs them; any number of processes may do so at once."""

from __future__ import annotations

import contextlib
import errno
import gc
import math
import socket
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import torch

from src.callbacks import AfterValidation, Every
from src.configs import shown
from src.configs.changes import with_fields
from src.configs.errors import InputError
from src.configs.search import Search
from src.datamodules import Fold
from src.experiment import Experiment
from src.runs import records, state
from src.runs.only_writer import AtWork
from src.runs.records import TakenOver
from src.studies.journal import imported, lock_of, open_study
from src.studies.samplers import planned, pruner_of, sampler_of, suggest
from src.studies.trial_lines import reasons, show, show_data
from src.training.failures import explain
from src.training.options import RunOptions
from src.training.runner import run

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.trial import FrozenTrial

HOPELESS = 5
"""First trials after which a search stops if all have failed."""
POLL = 2.0
"""Seconds between two looks at trials that others run."""
OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EIO)
"""Errors that no other setting mends."""
SAVES = Every(seconds=600)
"""How often a run saves within an epoch, as in run.py."""


class Trials:
    """What is left of a search, and how this process does its part of it.

    Args:
        folder: the search's directory.
        experiment: as it stands, before a trial's setting.
        search: what is searched, and how.
        workers: how many processes do so.
        failed: trials that had failed before this search went on; they do not count as signs of a hopeless one.
        model: named in the line of each trial, where several searches take turns.
    """

    def __init__(
        self,
        folder: Path,
        experiment: Experiment,
        search: Search,
        *,
        workers: int = 1,
        failed: int = 0,
        model: str = "",
    ) -> None:
        self.folder, self.experiment, self.search = folder, experiment, search
        self.workers, self.failed, self.model = workers, failed, model
        self.study, self.lock = open_study(folder), lock_of(folder)
        self.states = imported().trial.TrialState

    def run(self) -> None:
        """Run trials until all are finished, those of other processes too.

        Raises:
            InputError: the first trials have all failed, or the disk is full.
            Interrupted: the trial is saved, and is taken over by whoever goes on with the search.
        """
        while True:
            taken = self.take()
            if taken is not None:
                self.do(*taken)
            elif self.running():
                time.sleep(POLL)
            else:
                return

    def leave(self) -> None:
        """Leave the trial that this process was running to others, and wait until those have left theirs too."""
        with self.lock:
            for one in self.running():
                if not self.at_work(one):
                    imported().Trial(self.study, one._trial_id).set_user_attr("worker", None)
        while any(self.at_work(one) for one in self.running()):
            time.sleep(POLL / 10)

    def take(self) -> tuple[Trial, dict[str, Any]] | None:
        """Return a trial that this process has to run, and its setting; None where there is none left.

        First come those whose process is gone: they go on where they were.
        """
        with self.lock:
            trials = self.study.get_trials(deepcopy=False)
            self.refuse_hopeless(trials)
            left = [one for one in trials if one.state == self.states.RUNNING and not self.at_work(one)]
            number = left[0].number if left else len(trials)
            own = [one for one in trials if "imported" not in one.user_attrs]
            if not left and len(own) >= planned(self.search):
                return None
            self.study.sampler = sampler_of(self.search, self.experiment.seed, number, workers=self.workers)
            trial = imported().Trial(self.study, left[0]._trial_id) if left else self.study.ask()
            trial.set_user_attr("worker", state.writer() | {"since": time.time()})
            trial.set_user_attr("run", f"trial-{number + 1}")
            return trial, suggest(trial, self.search.space)

    def running(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=(self.states.RUNNING,))

    def at_work(self, trial: FrozenTrial) -> bool:
        """Return whether another process is running a trial that is not finished."""
        worker: dict[str, Any] | None = trial.user_attrs.get("worker")
        if not worker or all(worker[name] == value for name, value in state.writer().items()):
            return False  # nobody has come so far, or this process has and does so no more
        if worker["host"] == socket.gethostname():
            return state.started(worker["pid"]) == worker["pid_started"]
        child = self.folder / f"trial-{trial.number + 1}"
        if (child / "run.json").is_file():
            return state.state_of(child, records.load(child)) == "running"
        return time.time() - worker["since"] < state.SILENT

    def do(self, trial: Trial, setting: dict[str, Any]) -> None:
        """Run a trial, or go on with it, and tell the study how it ended."""
        child = self.folder / f"trial-{trial.number + 1}"
        there = (child / "run.json").is_file()
        if not there and (same := self.same(trial, setting)):
            self.repeat(trial, same)
            return
        try:
            if not (there and records.load(child)["state"] == "done"):
                train(self.wanted(setting), child, first=self.first(child), after_validation=self.judge(trial))
            self.conclude(trial, records.load(child))
        except (AtWork, TakenOver):  # it is in other hands
            time.sleep(POLL)
        except Exception as error:
            if of_the_machine(error):
                raise
            self.tell(trial, "FAIL", reason=explain(error))
        if torch.cuda.is_initialized():  # other processes, and trials of other sizes, want it
            gc.collect()
            torch.cuda.empty_cache()

    def wanted(self, setting: dict[str, Any]) -> Experiment:
        return with_fields(self.experiment, setting)

    def first(self, child: Path) -> Path | None:
        """Return the first run that has read its data, which have to be those of all."""
        runs = [one.user_attrs.get("run", "") for one in self.study.get_trials(deepcopy=False)]
        for folder in (self.folder / name for name in runs if name):
            with contextlib.suppress(InputError):
                if folder != child and "data" in records.load(folder):
                    return folder
        return None

    def judge(self, trial: Trial) -> AfterValidation:
        """Return what decides after each validation whether a trial goes on."""
        known: int = max(self.frozen(trial).intermediate_values, default=0)
        monitor = self.experiment.monitor
        why = {"median": "worse than the median of the trials before", "asha": "not among the best third"}

        def after(number: int, value: float) -> str:
            nonlocal known
            if number < known:  # a trial that goes on repeats what it had told
                return ""
            if number > known:
                trial.report(value, number)
                known = number
            self.study.pruner = pruner_of(self.search.pruner, self.longest())
            if not trial.should_prune():
                return ""
            return f"pruned: {monitor} {shown.metric(value)} at validation {number} is {why[self.search.pruner]}"

        return after

    def longest(self) -> int:
        """Return the most validations of a trial that came to its end."""
        complete = self.study.get_trials(deepcopy=False, states=(self.states.COMPLETE,))
        return max((len(one.intermediate_values) for one in complete), default=0)

    def frozen(self, trial: Trial) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[trial.number]

    def same(self, trial: Trial, setting: dict[str, Any]) -> FrozenTrial | None:
        """Return an earlier trial of this search that had the same setting, and so would have the same run."""
        finished = (self.states.COMPLETE, self.states.PRUNED)
        for one in self.study.get_trials(deepcopy=False, states=finished):
            if one.params == setting and "imported" not in one.user_attrs and one.number != trial.number:
                return one
        return None

    def repeat(self, trial: Trial, same: FrozenTrial) -> None:
        """Give a trial the values of an earlier one, which is not trained again."""
        trial.set_user_attr("run", same.user_attrs["run"])
        trial.set_user_attr("same_as", same.number)
        for number, value in same.intermediate_values.items():
            trial.report(value, number)
        complete = same.state == self.states.COMPLETE
        self.tell(trial, same.state.name, value=same.value if complete else None)

    def conclude(self, trial: Trial, record: dict[str, Any]) -> None:
        """Tell the study the best validation value of a run that is done."""
        best, monitor = record.get("best"), self.experiment.monitor
        if record["reason"].startswith("pruned"):
            self.tell(trial, "PRUNED", seconds=record["wall_s"])
        elif best is None:
            self.tell(trial, "FAIL", reason=f"{monitor} was not logged in any validation")
        elif not math.isfinite(best["value"]):
            self.tell(trial, "FAIL", reason=f"{monitor} was {best['value']} in every validation")
        else:
            self.tell(trial, "COMPLETE", value=best["value"], seconds=record["wall_s"])

    def tell(
        self, trial: Trial, ended: str, *, value: float | None = None, reason: str = "", seconds: float = 0.0
    ) -> None:
        """Record how a trial ended and print a line of it."""
        with self.lock:
            if self.frozen(trial).state.is_finished():  # another process was quicker to take a dead one over
                return
            if not any(one.state.is_finished() for one in self.study.get_trials(deepcopy=False)):
                show_data(self.folder / f"trial-{trial.number + 1}")
            if reason:
                trial.set_user_attr("reason", reason)
            trial.set_user_attr("seconds", seconds)
            self.study.tell(trial, value, state=self.states[ended])
        show(self.frozen(trial), self.study, self.experiment.monitor, model=self.model)

    def refuse_hopeless(self, trials: Sequence[FrozenTrial]) -> None:
        """Raise an InputError where the first trials have all failed."""
        finished = [one for one in trials if one.state.is_finished() and "imported" not in one.user_attrs]
        failed = [one for one in finished if one.state == self.states.FAIL]
        if len(failed) == len(finished) and len(failed) - self.failed >= HOPELESS:
            raise InputError(f"the first {len(failed)} trials have failed: {reasons(failed)}")


def train(
    experiment: Experiment,
    child: Path,
    *,
    first: Path | None = None,
    test: bool = False,
    fold: Fold | None = None,
    after_validation: AfterValidation | None = None,
) -> None:
    """Train in a directory, or go on there; what it prints is in its `output.txt`.

    Args:
        experiment: what is trained.
        child: the run's directory.
        first: a run that must have had the same data.
        test: read the test set too.
        fold: as in `RunOptions`.
        after_validation: as in `RunOptions`.
    """
    there = (child / "run.json").is_file()
    child.mkdir(exist_ok=True)
    options = RunOptions(
        child=child,
        resume=child if there else None,
        same_data_as=None if there else first,
        checkpoint_every=SAVES,
        test=test,
        fold=fold,
        after_validation=after_validation,
    )
    with open(child / "output.txt", "a", encoding="utf-8", buffering=1) as file, output_to(file):
        run(experiment, options)


@contextlib.contextmanager
def output_to(file: TextIO) -> Iterator[None]:
    """Write there what is printed meanwhile, and the traceback of an error that is none of the user's."""
    with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        try:
            yield
        except Exception as error:
            if not isinstance(error, InputError):
                traceback.print_exception(error, file=file)
            raise


def of_the_machine(error: BaseException | None) -> bool:
    """Return whether an error is a full disk or the like, which ends the search and not only a trial."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in OF_THE_MACHINE:
            return True
        error = error.__cause__ or error.__context__
    return False
