"""Predict with a run: `python scripts/predict.py runs/<Experiment>/<id> folder/ reviews.csv --out predictions.csv`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tyro

from src import cli
from src.experiment import Accelerator, InputError


def main(
    run: tyro.conf.Positional[Path],
    inputs: tyro.conf.Positional[tuple[Path, ...]],
    out: Path | None = None,
    accelerator: Accelerator = "auto",
    calibrate: bool = True,
    threshold: bool = False,
) -> int:
    """Write `id,label,prob_<class>...,error` for every input, in order; what cannot be read is a row with its error.

    Args:
        run: Run directory, runs/<Experiment>/<id>.
        inputs: Pictures and folders of them; for texts tables (CSV, JSON lines, Parquet), .txt, or - for stdin.
        out: CSV to write; without it the rows are printed.
        accelerator: Device to run on.
        calibrate: Scale probabilities by the temperature found on validation data; no label changes.
        threshold: Of two classes, decide by the threshold found on validation data, not for the likelier.
    """
    from src import prediction  # imports torch and lightning: only once the command line is known to be right

    return prediction.write(run, inputs, out, accelerator=accelerator, calibrate=calibrate, threshold=threshold)


if __name__ == "__main__":
    try:
        sys.exit(tyro.cli(main))
    except InputError as error:
        sys.exit(cli.fail(error))
