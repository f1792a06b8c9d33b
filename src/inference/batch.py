"""Predictions of files as CSV: what `predict.py` does."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from src.configs.errors import InputError
from src.configs.training import Accelerator
from src.inference import exported
from src.inference.predictions import Predictions
from src.resources.files import atomic_write
from src.runs.predictions import predictions_csv
from src.terminal.streams import unguarded


class Table(NamedTuple):
    """Predictions as CSV."""

    text: str
    """CSV `id,label,prob_<class>...,error` or `id,prediction[,lower,upper],error`, a row an input, in their order."""
    failed: int
    """Inputs with an error."""
    notes: list[str]
    """What the user should know, and the score where the inputs came with labels."""


def predict(
    run: Path,
    inputs: Sequence[Path],
    *,
    accelerator: Accelerator = "auto",
    calibrate: bool = True,
    threshold: bool = False,
) -> Table:
    """Return the predictions of files as CSV; `-` is standard input. The arguments are those of `predictor.predict`."""
    predictions = _predictions(run, inputs, accelerator, calibrate=calibrate, threshold=threshold)
    text = predictions_csv(predictions.ids, predictions.columns, errors=predictions.errors, id_name=predictions.id_name)
    return Table(text, sum(map(bool, predictions.errors)), predictions.notes)


def _predictions(
    run: Path, inputs: Sequence[Path], accelerator: Accelerator, *, calibrate: bool, threshold: bool
) -> Predictions:
    """Return the predictions of a run, or of an export, which needs no torch."""
    if exported.is_export(run):
        if accelerator not in ("auto", "cpu"):
            raise InputError(f"--accelerator {accelerator}: an export is predicted with on the CPU. Name its run.")
        return exported.load(run).predict(inputs, calibrate=calibrate, threshold=threshold)
    from src.inference import predictor
    from src.training.trainer import quieten

    quieten()
    return predictor.predict(run, inputs, accelerator=accelerator, calibrate=calibrate, threshold=threshold)


def write(
    run: Path,
    inputs: Sequence[Path],
    out: Path | None,
    *,
    accelerator: Accelerator = "auto",
    calibrate: bool = True,
    threshold: bool = False,
) -> int:
    """Predict, and write the CSV to `out`, or print it; return the exit code."""
    if out and out.is_dir():
        raise InputError(f"--out {out}: a folder. Name a file in it.")
    text, failed, notes = predict(run, inputs, accelerator=accelerator, calibrate=calibrate, threshold=threshold)
    if out is None:
        to_stdout(text)
    else:
        try:
            atomic_write(out, text)
        except OSError as error:
            to_stdout(text)
            raise InputError(
                f"--out {out}: cannot be written ({error.strerror or error}); the predictions went to standard output."
            ) from error
    rows = sum(1 for _ in csv.reader(io.StringIO(text, newline=""))) - 1  # a name may have line breaks
    for line in (f"{rows} rows, {failed} with an error{f', in {out}' if out else ''}", *notes):
        print(line, file=sys.stderr)
    return 0


def to_stdout(text: str) -> None:
    """Print a CSV: what is redirected to a file is as --out would write it, a terminal gets no control characters."""
    if sys.stdout.isatty():
        print(text, end="", flush=True)
        return
    with unguarded():
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")
        print(text, end="", flush=True)
