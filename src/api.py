"""Leyden from Python: run experiments, load and compare runs, predict."""

from __future__ import annotations

import contextlib
import math
import signal
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from src.cli.parser import RunFlags, experiment_of
from src.configs.changes import with_fields
from src.configs.errors import InputError
from src.datamodules.tables.kinds import columns
from src.experiment import Experiment
from src.inference import exported
from src.loaded import Export, Run
from src.loading import load as load_experiment
from src.runs import records

with warnings.catch_warnings(), contextlib.suppress(ImportError):  # where exports alone are predicted with
    warnings.filterwarnings("ignore", "IProgress not found")  # in a notebook without ipywidgets; bars are text there
    import tqdm.auto  # noqa: F401

__all__ = ["Export", "InputError", "Run", "columns", "compare", "load", "run"]


def run(
    experiment: str | Path | Experiment | type[Experiment] | None = None,
    *,
    test: bool = False,
    baselines: bool = False,
    folds: int | None = None,
    ensemble: int | None = None,
    resume: str | Path | Run | None = None,
    checkpoint_every: str = "10min",
    **fields: Any,
) -> Run:
    """Train an experiment and return its run; only progress is printed.

    Ctrl-C, the stop button of a notebook, and SIGTERM end the step and save, as in the shell. Warning filters, random
    generators and signal handlers are afterwards as before. For several seeds, call it once a seed and `compare`.

    Args:
        experiment: `experiments/digits.py:DigitsCNN`, the class, or an instance; None where a run is resumed.
        test: read the test set too, with the best checkpoint.
        baselines: fit scikit-learn's baselines to the same split; they are in `Run.record`.
        folds: cross-validate in so many folds.
        ensemble: train so many members and average what they predict.
        resume: a run to go on with, in its own directory; with `test`, to test when it is done.
        checkpoint_every: save within an epoch too, after so many steps ('500') or minutes ('10min').
        **fields: fields of the experiment to change, nested ones with a dot: `max_epochs=3`, `**{"optim.lr": 1e-4}`.

    Raises:
        InputError: what can be put right, such as a field that the experiment does not have.
        KeyboardInterrupt: by Ctrl-C. The run is marked as interrupted, and can be resumed.

    Examples:
        >>> run = leyden.run("experiments/digits.py:DigitsCNN", max_epochs=3)
        epoch 1/3 ...
        >>> leyden.run(resume=run, test=True).metrics["test/acc"]
        0.9815
    """
    resumed = resume.path if isinstance(resume, Run) else Path(resume) if resume else None
    flags = RunFlags(test=test, baselines=baselines, folds=folds, ensemble=ensemble, resume=resumed)
    flags = replace(flags, checkpoint_every=checkpoint_every)
    wanted = with_fields(experiment_of(resumed) if resumed else _experiment(experiment), fields, options=vars(flags))
    if resumed and (experiment is not None or folds or ensemble or "seed" in fields):
        raise InputError("resume goes on with the run's own experiment, seed, folds and members; leave them out.")
    from src.callbacks import Interrupted
    from src.cli.commands import train
    from src.training.quiet import quietly

    with quietly():
        try:
            done = Run(train(wanted, flags))
        except Interrupted as stop:
            if stop.exit_code != 128 + signal.SIGINT:
                raise SystemExit(stop.exit_code) from None
            raise KeyboardInterrupt("the run is interrupted; leyden.run(resume=<its directory>) goes on") from None
    _warn_of_fallbacks(done.record)
    return done


def load(path: str | Path) -> Run:
    """Return the run of a directory, or an export, which is an `Export` and needs no torch.

    Raises:
        InputError: the directory is neither; the message names the latest runs beside it. Or a file of the export is
            not the one that was certified.

    Examples:
        >>> leyden.load("runs/DigitsCNN/20260131T120000Z-1a2b")
        >>> leyden.load("runs/DigitsCNN/20260131T120000Z-1a2b/export/onnx").predict(["a.png"])
    """
    if exported.is_export(Path(path)):
        return Export(Path(path), exported.load(Path(path)))
    records.load(Path(path))
    return Run(Path(path))


def compare(*places: str | Path) -> pd.DataFrame:
    """Return a row for each group of runs that differ in the seed alone, the best first among those on the same data.

    The columns are the experiment, the settings that differ, the data, how many runs are done, failed and so on, and
    for each metric `_mean`, `_sd`, `_n`, `_low` and `_high`, the last two the 95 % interval of the mean, from
    three runs on. Rows with another `fingerprint` or `split` cannot be compared. `frame.attrs["warnings"]` says what
    else to beware of, and `frame.attrs["skipped"]` which runs could not be read.

    Args:
        *places: run directories, or folders to search for them; by default all runs.

    Raises:
        InputError: a place is not there, or has no run.

    Examples:
        >>> leyden.compare("runs")[["experiment", "done", "val/acc_mean", "val/acc_sd"]]
    """
    from src.runs.compare import files
    from src.runs.compare.caution import cautions
    from src.runs.compare.groups import compare as grouped
    from src.runs.compare.runs import find

    runs, skipped = find([Path(place) for place in places] or [records.runs_dir()])
    blocks = grouped(runs)
    frame = pd.DataFrame(files.rows(blocks)).replace({None: math.nan}).infer_objects()
    frame.attrs = {"warnings": cautions(blocks), "skipped": skipped}
    return frame


def _experiment(given: str | Path | Experiment | type[Experiment] | None) -> Experiment:
    if isinstance(given, Experiment):
        return given
    if isinstance(given, str | Path):
        return load_experiment(str(given))()
    if isinstance(given, type) and issubclass(given, Experiment):
        return given()
    raise InputError(f"{given!r}: no experiment. Give experiments/<file>.py[:Name], a class, or an instance.")


def _warn_of_fallbacks(record: Mapping[str, Any]) -> None:
    """Warn where other data or weights stood in for those asked for, which the shell's plan says in capitals."""
    fields, data = record["fields"], record["data"]
    found = [f"the data is {data['source']}"] if data["stand_in"] and fields["source"] == "auto" else []
    found += [f"{name} {fields[name]} in place of {wanted}" for name, wanted in record["asked"].items()]
    if found:
        warnings.warn(f"STAND-IN: {'; '.join(found)}. No score on it holds for the real one.", stacklevel=3)
