"""Predict with a run: `python scripts/predict.py runs/<Experiment>/<id> folder/ reviews.csv --out predictions.csv`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src import cli


def main(flags: cli.PredictFlags) -> int:
    if flags.experiment:
        cli.load(str(flags.experiment))  # imported by name, the run finds it
    from src.inference import batch

    return batch.write(
        flags.run,
        flags.inputs,
        flags.out,
        accelerator=flags.accelerator,
        calibrate=flags.calibrate,
        threshold=flags.threshold,
    )


if __name__ == "__main__":
    sys.exit(cli.exit_code(lambda: main(cli.read_flags(cli.PredictFlags, sys.argv[1:]))))
