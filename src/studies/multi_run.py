"""A parent run and its children: the folds of a cross-validation, the members of an ensemble."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.callbacks import Every, Interrupted
from src.configs.errors import InputError
from src.datamodules import Fold
from src.experiment import Experiment
from src.runs import records, state, summary
from src.training.runner import is_rank_zero, record_failure, refuse_running, run


@contextlib.contextmanager
def parent(asked: Experiment, resume: Path | None, *, again: bool = False, **kept: Any) -> Iterator[Path]:
    """Yield the directory of a parent run, a new one or that to go on with, while its children run.

    Args:
        asked: as the user wants it.
        resume: the directory of a parent to go on with.
        again: whether it may be done already, and more is asked of it.
        kept: what the record says of the family.

    Raises:
        InputError: as for `run`, or all is done already.
    """
    main = is_rank_zero()
    folder = resume or (records.create(type(asked)) if main else records.runs_dir() / "of-rank-0")
    before = records.load(resume) if resume else {}
    done = before.get("state") == "done"
    if resume:
        if main:
            refuse_running(resume, before)
        if done and not again:
            what = "cross-validation" if "folds" in before else "ensemble"
            raise InputError(f"{resume}: the {what} is done. Start a new one.")
    try:
        if main and not resume:
            records.start(folder, asked.resolve(), asked)
        if main:
            records.update(folder, **state.process(), **kept)
        with state.heartbeat(folder) if main else contextlib.nullcontext():
            yield folder
    except BaseException as error:
        if main and done:  # what it had stays
            records.update(folder, **{name: before.get(name) for name in ("state", "reason", *kept)})
        elif main:
            record_failure(asked, folder, error, 0.0)
            if isinstance(error, Interrupted):
                summary.interrupted(folder)
        raise


def child(
    asked: Experiment,
    folder: Path,
    first: Path,
    *,
    test: bool,
    baselines: bool = False,
    fold: Fold | None = None,
    checkpoint_every: Every | None = None,
) -> Path:
    """Run a child, go on with it, or leave it as it is where all that is asked is done; return its directory.

    Args:
        asked: as the user wants it.
        folder: the child's directory, below its parent's.
        first: that of the first child, whose data these have to be.
        test, baselines, fold, checkpoint_every: as for `run`.
    """
    there = (folder / "run.json").is_file()
    if there:
        record = records.load(folder)
        tested = any(name.startswith("test/") for name in record.get("metrics", {}))  # written at the end of a test
        if record["state"] == "done" and (tested or not test):
            return folder
    if folder != first and is_rank_zero():
        print(flush=True)
    return run(
        asked,
        test=test,
        baselines=baselines,
        resume=folder if there else None,
        checkpoint_every=checkpoint_every,
        same_data_as=first if folder != first and is_rank_zero() else None,  # other processes may not see it
        fold=fold,
        child=folder,
    )


def mean_and_spread(found: Sequence[Mapping[str, float]]) -> tuple[dict[str, float], dict[str, float]]:
    """Return the mean and the sample standard deviation of each metric that all have."""
    names = [name for name in found[0] if all(name in one for one in found)]
    values = {name: np.array([one[name] for one in found]) for name in names}
    mean = {name: float(of.mean()) for name, of in values.items()}
    return mean, {name: float(of.std(ddof=1)) for name, of in values.items()}
