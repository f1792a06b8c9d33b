"""What the stopwatch, its shares and the forecast cost a training step: a tiny MLP with them and without, in turns.

    OMP_NUM_THREADS=1 python benchmarks/overhead.py --rounds 7

The network is that of `benchmarks/tables.py`; the other one trains with Lightning's profiler that does nothing. Divide
1 by the steps/s (examples/s by the batch of 32) for the time of a step.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd
from lightning.pytorch.profilers import PassThroughProfiler

from benchmarks.tables import NUMBERS, ROWS, Tiny
from benchmarks.turns import Steps, Turns, race
from src import runner
from src.callbacks import Forecast, TimeShares
from src.experiment import Experiment
from src.loggers import MetricsCsv, TensorBoard
from src.trainer import build_callbacks, build_trainer, quieten


class Unmeasured(Tiny):
    """The same without a stopwatch."""

    def trainer_kwargs(self) -> dict[str, Any]:
        return {"profiler": PassThroughProfiler()}


def contender(experiment: Experiment, folder: Path) -> Callable[[Turns], None]:
    def train(turns: Turns) -> None:
        quieten()
        datamodule, task = runner.build_parts(experiment)
        callbacks = build_callbacks(experiment, folder)
        if isinstance(experiment, Unmeasured):
            callbacks = [one for one in callbacks if not isinstance(one, Forecast | TimeShares)]
        folder.mkdir()
        loggers = [MetricsCsv(folder), TensorBoard(folder)]
        trainer = build_trainer(experiment, [*callbacks, Steps(turns)], logger=loggers)
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            trainer.fit(task, datamodule=datamodule)

    return train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="timed turns of each, after one for warm-up")
    parser.add_argument("--steps", type=int, default=624, help="optimiser steps a turn; 312 are an epoch")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "table").mkdir()
        for split, rows in (("train", ROWS), ("val", 1000)):
            frame = pd.DataFrame(rng.normal(size=(rows, NUMBERS)), columns=[f"x{i}" for i in range(NUMBERS)])
            frame.assign(y=frame.sum(axis=1)).to_parquet(folder / "table" / f"{split}.parquet")
        data = folder / "table"
        contenders = {
            "with": contender(Tiny(data_dir=data), folder / "with"),
            "without": contender(Unmeasured(data_dir=data), folder / "without"),
        }
        race(contenders, options.rounds, options.steps)


if __name__ == "__main__":
    main()
