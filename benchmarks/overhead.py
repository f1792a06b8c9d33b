"""What the stopwatch, its shares and the forecast cost a training step: a tiny MLP with them and without, in turns.

    OMP_NUM_THREADS=1 python benchmarks/overhead.py stopwatch --rounds 7

The network is that of `benchmarks/tables.py`; the other one trains with Lightning's profiler that does nothing. Divide
1 by the steps/s (examples/s by the batch of 32) for the time of a step.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lightning.pytorch.profilers import PassThroughProfiler

from benchmarks import report
from benchmarks.tables import EPOCH, Tiny, write
from benchmarks.turns import Contender, Steps, Turns
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
        trainer.fit(task, datamodule=datamodule)

    return train


def main() -> None:
    flags = report.options(__doc__ or "", ["stopwatch"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder)
        contenders = [
            Contender("with", contender(Tiny(data_dir=folder), folder / "with"), 2 * EPOCH),
            Contender("without", contender(Unmeasured(data_dir=folder), folder / "without"), 2 * EPOCH, "with"),
        ]
        report.show(report.measure("stopwatch, shares and forecast", contenders, flags.rounds), flags.json)


if __name__ == "__main__":
    main()
