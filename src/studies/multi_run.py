"""A parent run and its children: folds of a cross-validation, members of an ensemble, variants of an ablation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from src.callbacks import Interrupted
from src.configs.errors import InputError
from src.experiment import Experiment
from src.runs import records, state, summary
from src.runs.only_writer import only_writer
from src.runs.records import Record, TakenOver
from src.training.options import RunOptions
from src.training.ranks import is_rank_zero, launched, meet, told
from src.training.runner import record_failure, run

STUDIES = {"folds": "cross-validation", "ensemble": "ensemble", "ablation": "ablation"}
"""What a parent's record says of its children -> what it is."""


@contextlib.contextmanager
def parent(
    requested: Experiment, resume: Path | None, *, again: bool = False, name: str = "", **kept: Any
) -> Iterator[Record]:
    """Yield the record of a parent run, a new one or that to go on with, while its children run.

    Args:
        requested: as the user wants it.
        resume: the directory of a parent to go on with.
        again: whether it may be done already, and more is asked of it.
        name: of the folder in `runs`, in place of the experiment's.
        kept: what the record says of the children.

    Raises:
        InputError: as for `run`, or all is done already.
    """
    meet(requested)
    main = is_rank_zero()

    def begin(held: contextlib.ExitStack) -> tuple[Record, dict[str, Any]]:
        folder = resume or records.create(name or type(requested).__name__)
        record = held.enter_context(only_writer(folder, resumed=resume is not None))
        before = dict(record)
        if before.get("state") == "done" and not again:
            what = next(what for name, what in STUDIES.items() if name in before)
            raise InputError(f"{resume}: the {what} is done. Start a new one.")
        if resume:
            record.go_on(launch=launched())
        else:
            record.start(requested, launch=launched(), **kept)
        return record, before

    with contextlib.ExitStack() as held:
        record, before = told(lambda: begin(held))
        done = before.get("state") == "done"
        try:
            if main:
                resolved = requested.resolve()
                head = {} if resume else records.head(requested, resolved)
                record.update(**head, **kept, reason="")
            with state.heartbeat(record.folder) if main else contextlib.nullcontext():
                yield record
        except BaseException as error:
            if main and done and not isinstance(error, TakenOver):  # what it had stays
                record.give_back(before)
            elif main:
                record_failure(record, before, error, 0.0)
                if isinstance(error, Interrupted):
                    summary.interrupted(record.folder)
            raise


def child(requested: Experiment, folder: Path, first: Path, options: RunOptions) -> Path:
    """Run a child, go on with it, or leave it as it is where all that is asked is done; return its directory.

    Args:
        requested: as the user wants it.
        folder: the child's directory, below its parent's.
        first: that of the first child, whose data these have to be.
        options: of the child, but for where it runs.
    """
    there, done = told(lambda: progress(folder, test=options.test))
    if done:
        return folder
    if folder != first and is_rank_zero():
        print(flush=True)
    original = options.same_data_as / folder.name if options.same_data_as else None  # of a reproduction
    same_data_as = first if folder != first else original
    return run(requested, replace(options, resume=folder if there else None, same_data_as=same_data_as, child=folder))


def progress(folder: Path, *, test: bool) -> tuple[bool, bool]:
    """Return whether a child has begun, and whether all that is asked of it is done."""
    if not (folder / "run.json").is_file():
        return False, False
    record = records.load(folder)
    tested = any(name.startswith("test/") for name in record.get("metrics", {}))  # written at the end of a test
    return True, record["state"] == "done" and (tested or not test)


def mean_and_spread(found: Sequence[Mapping[str, float]]) -> tuple[dict[str, float], dict[str, float]]:
    """Return the mean and the sample standard deviation of each metric that all have."""
    names = [name for name in found[0] if all(name in one for one in found)]
    values = {name: np.array([one[name] for one in found]) for name in names}
    mean = {name: float(of.mean()) for name, of in values.items()}
    return mean, {name: float(of.std(ddof=1)) for name, of in values.items()}
