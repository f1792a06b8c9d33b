"""A search for the best settings of an experiment: a parent run, whose trials are runs below it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.configs.errors import InputError
from src.configs.search import Search
from src.experiment import Experiment
from src.runs import records, state
from src.runs.records import Record
from src.studies import confirmation, search_summary
from src.studies.earlier_runs import add_earlier
from src.studies.journal import imported, lock_of, open_study, study_of
from src.studies.multi_run import parent
from src.studies.samplers import planned
from src.studies.trial_lines import best_of, reasons
from src.studies.trials import Trials
from src.studies.workers import Deadline, in_processes
from src.terminal import console
from src.training.ranks import is_rank_zero

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

__all__ = ["SearchOptions", "join", "search", "study_of"]

DEATHS = 3
"""Times that the process of a trial may be killed before the trial counts as failed."""
FIXED = {
    "seed": "a seed chosen by its validation value is no better on other data",
    "monitor": "values of two metrics cannot be compared",
    "mode": "values of two metrics cannot be compared",
    "data_dir": "values on other data cannot be compared",
    "source": "values on other data cannot be compared",
    "quarantine": "values on other data cannot be compared",
    "limit_val_batches": "values on other data cannot be compared",
    "limit_test_batches": "the test set is not read by a trial",
    "logger": "it changes no value",
    "devices": "a trial has one device",
    "num_nodes": "a trial has one device",
    "strategy": "a trial has one device",
}
"""Fields that cannot be searched, and why."""


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How a search is done, as against what is searched."""

    workers: int = 1
    """Processes."""
    seconds: float | None = None
    """After which trials are stopped; they go on where the search is resumed. The confirmation comes after that."""
    seeds: tuple[int, ...] = ()
    """Over which the best setting and the default are trained and tested at the end; none: they are not."""
    earlier: tuple[Path, ...] = ()
    """Runs that are trials too."""
    resume: Path | None = None
    """The directory of a search to go on with."""


@dataclass(frozen=True)
class Part:
    """What each process of a search has to know."""

    folder: Path
    experiment: Experiment
    search: Search
    seeds: tuple[int, ...]
    until: float | None
    """Seconds since 1970 at which trials are stopped."""
    workers: int
    failed: int
    """Trials that had failed before the search went on."""


def search(requested: Experiment, wanted: Search, options: SearchOptions = SearchOptions()) -> Path:
    """Search the best setting of an experiment by a validation metric, confirm it, and return the directory.

    Args:
        requested: as the user wants it; a trial changes the fields that are searched.
        wanted: what is searched, and how.
        options: how to go about it. `resume` is a search to go on with, of the same space.

    Raises:
        InputError: anything the user can put right; another search is at work there; no trial came to its end.
        Interrupted: trials that ran are saved, and go on where the search is resumed.
    """
    refuse(requested, wanted)
    direction = "minimize" if requested.mode == "min" else "maximize"
    until = time.time() + options.seconds if options.seconds else None
    kept = wanted.to_json() | {"metric": requested.monitor, "mode": requested.mode, "of": origin(requested, wanted)}
    kept |= {"seeds": list(options.seeds), "until": until}
    with parent(requested, options.resume, again=True, search=kept) as record:
        began = time.monotonic()
        folder = record.folder
        with lock_of(folder):
            study = open_study(folder, direction)
        add_earlier(study, requested, wanted, options.earlier)
        failed = sum(one.state.name == "FAIL" for one in study.get_trials(deepcopy=False))
        part = Part(folder, requested, wanted, options.seeds, until, options.workers, failed)
        search_summary.before(requested, wanted, folder, study)
        if options.workers == 1:
            work(part)
        else:
            in_processes(options.workers, work, (part,), lambda pid, code: bury(part, pid, code), _ended(part))
        finish(part, record, time.monotonic() - began)
    return folder


def join(folder: Path, experiment: Experiment) -> None:
    """Run trials of a search that another process, maybe on another machine, has begun and is at; as long as it does.

    Raises:
        InputError: no search is at work there.
    """
    record = records.load(folder)
    now = state.state_of(folder, record)
    if "search" not in record or now != "running":
        raise InputError(f"--join {folder}: no search that is running ({now}). Go on with one: --resume {folder}.")
    trials = Trials(folder, experiment, Search.from_json(record["search"]), workers=2)
    with Deadline(record["search"].get("until")):
        trials.run()


def work(part: Part) -> None:
    """Do what one process can of a search: run trials until none is left, then its share of the confirmation."""
    trials = Trials(part.folder, part.experiment, part.search, workers=part.workers, failed=part.failed)
    with Deadline(part.until) as deadline:
        trials.run()
    if deadline.over:
        trials.leave()
        console.line("time", "--max-time is over; trials that were running go on where the search is resumed")
    best = best_of(trials.study)
    if best is None or not part.seeds:
        return
    with trials.lock:
        confirmation.keep_apart(part.folder, trials.study.get_trials(deepcopy=False), best)
    wanted = confirmation.jobs(part.experiment, best.params, part.seeds)
    confirmation.confirm(part.folder, wanted, run_of(part.folder, best))


def run_of(folder: Path, trial: FrozenTrial) -> Path:
    """Return the run directory of a trial; that of an earlier run is elsewhere."""
    return folder / trial.user_attrs["run"]


def bury(part: Part, pid: int, code: int) -> None:
    """Count a killed process with the trial that it ran; the third time the trial has failed, and is not run again."""
    study, host = open_study(part.folder), state.writer()["host"]
    with lock_of(part.folder):
        for trial in study.get_trials(deepcopy=False):
            worker = trial.user_attrs.get("worker") or {}
            if trial.state.name != "RUNNING" or (worker.get("host"), worker.get("pid")) != (host, pid):
                continue
            deaths = trial.user_attrs.get("deaths", 0) + 1
            reason = f"its process was killed {deaths} times (exit code {code}): is there memory for it?"
            again = imported().Trial(study, trial._trial_id)
            again.set_user_attr("deaths", deaths)
            if deaths >= DEATHS:
                again.set_user_attr("reason", reason)
                study.tell(again, state=type(trial.state).FAIL)
            console.line(f"trial {trial.number + 1}", reason if deaths >= DEATHS else "its process was killed; again")


def _ended(part: Part) -> Any:
    """Return what counts the trials and runs that have come to their end."""
    study = open_study(part.folder)

    def count() -> int:
        trials = sum(one.state.is_finished() for one in study.get_trials(deepcopy=False))
        confirmed = [*part.folder.glob("best-*"), *part.folder.glob("default-*")]
        return trials + sum(confirmation.is_done(run) for run in confirmed)

    return count


def finish(part: Part, record: Record, seconds: float) -> None:
    """Write what the search has found, and show it.

    Raises:
        InputError: no trial came to its end.
    """
    folder, monitor, mode = part.folder, part.experiment.monitor, part.experiment.mode
    study = study_of(folder)
    trials, best = study.get_trials(deepcopy=False), best_of(study)
    own = [one for one in trials if "imported" not in one.user_attrs]
    ended = [one for one in own if one.state.is_finished()]
    if best is None:
        failed = reasons([one for one in trials if one.state.name == "FAIL"])
        why = f"all have failed: {failed}" if failed else "the time was over first. Give it more (--max-time)"
        raise InputError(f"{folder}: no trial came to its end; {why}. Go on: search.py --resume {folder}")
    run = records.load(run_of(folder, best))
    values: Any = {name: run[name] for name in ("data", "spec", "weights", "model", "device", "precision")}
    count = planned(part.search)
    over = f" of {count}: max_time is over" if len(ended) < count and part.until else ""
    values |= {
        "state": "done",
        "reason": f"{len(ended)} trials{over}",
        "best": {
            "name": monitor,
            "mode": mode,
            "value": best.value,
            "trial": best.number + 1,
            "run": best.user_attrs["run"],
        },
        "setting": best.params,
        "metrics": {name: value for name, value in run["metrics"].items() if name.startswith("val/")},
        "wall_s": round(record.get("wall_s", 0.0) + seconds, 1),
    }
    if not part.seeds and record.get("setting") == best.params:
        confirmed = record.get("confirmed", {})
    else:
        confirmed = confirmation.result(folder, part.seeds, monitor)
    values["confirmed"] = confirmed and confirmed | {"trials": len(trials)}
    if confirmed:
        tested = confirmed["best"]
        values["metrics"] |= {name: value for name, value in tested.items() if name.startswith("test/")}
        values["tests_read"] = int(any(name.startswith("test/") for name in tested))
    elif part.seeds:
        console.line("NOTE", f"not confirmed: no seed has both runs; see {folder / 'best-*' / 'output.txt'}")
    record.update(**values)
    search_summary.after(record, part.experiment, study, _pages(part, study))


def _pages(part: Part, study: Any) -> Path:
    """Write the search's page, and its figures into TensorBoard; return the page."""
    from src.runs.tensorboard import TensorBoard
    from src.studies import search_page

    if "tensorboard" in part.experiment.logger:
        tensorboard = TensorBoard(part.folder)
        search_page.log(tensorboard, study)
        tensorboard.finalize("success")  # its thread would stay
    return search_page.write(part.folder, study)


def origin(experiment: Experiment, wanted: Search) -> str:
    """Return where the space comes from: 'class' or 'flags'."""
    of_class = type(experiment).search
    return "class" if of_class is not None and of_class.space == wanted.space else "flags"


def refuse(experiment: Experiment, wanted: Search) -> None:
    """Raise an InputError for what cannot be searched, or not so."""
    for name in wanted.space:
        if why := FIXED.get(name):
            raise InputError(f"--search {name}: {why}. Leave it out.")
    if experiment.monitor.startswith(("test/", "train/")):
        raise InputError(f"--monitor {experiment.monitor}: a search chooses by a validation metric, such as val/loss.")
    several = experiment.devices not in ("auto", "1") or experiment.num_nodes > 1
    if several or not is_rank_zero() or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("a trial has one device and one process. Leave --devices and torchrun out; give --workers N.")
