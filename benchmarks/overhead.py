"""What the stopwatch, its shares and the forecast cost a training step: a tiny MLP with them and without, in turns.

    OMP_NUM_THREADS=1 python benchmarks/overhead.py stopwatch --rounds 7

The network is that of `benchmarks/tables.py`; the other one trains with Lightning's profiler that does nothing. Divide
1 by the steps/s (examples/s by the batch of 32) for the time of a step.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lightning.pytorch.profilers import PassThroughProfiler

from benchmarks import report
from benchmarks.loops import ours
from benchmarks.tables import EPOCH, Tiny, write
from benchmarks.turns import Contender
from src.callbacks import Forecast, TimeShares


class Unmeasured(Tiny):
    """The same without a stopwatch."""

    def trainer_kwargs(self) -> dict[str, Any]:
        return {"profiler": PassThroughProfiler()}


def main() -> None:
    flags = report.options(__doc__ or "", ["stopwatch"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder)
        contenders = [
            Contender("with", ours(Tiny(data_dir=folder)), 2 * EPOCH),
            Contender("without", ours(Unmeasured(data_dir=folder), without=(Forecast, TimeShares)), 2 * EPOCH, "with"),
        ]
        report.show(report.measure("stopwatch, shares and forecast", contenders, flags.rounds), flags.json)


if __name__ == "__main__":
    main()
