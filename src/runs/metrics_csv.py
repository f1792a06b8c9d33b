"""`metrics.csv`, which everything else reads."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from typing_extensions import override

from src.resources.files import atomic_write
from src.runs.records import metrics_row


class MetricsCsv(Logger):
    """Appends `time,epoch,step,name,value` to the run's `metrics.csv`, also when a run is resumed, where Lightning's
    CSVLogger begins anew. Epochs count from 1; 0 is before training.

    Args:
        run: the run directory.
    """

    def __init__(self, run: Path) -> None:
        super().__init__()
        self.run = run
        self.path = run / "metrics.csv"
        self.epoch = 0

    @property
    @override
    def save_dir(self) -> str:
        """The run directory: where a user's ModelCheckpoint saves, since this is the first logger."""
        return str(self.run)

    @property
    @override
    def name(self) -> str:
        return ""

    @property
    @override
    def version(self) -> str:
        return ""

    @override
    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.epoch = int(metrics.get("epoch", self.epoch - 1)) + 1
        now = round(time.time(), 3)
        rows = [
            f"{now},{self.epoch},{step or 0},{name},{float(value)!r}\n"
            for name, value in metrics.items()
            if name != "epoch"
        ]
        with open(self.path, "ab+") as file:
            if file.tell() == 0:
                file.write(b"time,epoch,step,name,value\n")
            else:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a crash cut the last row short
                    file.write(b"\n")
            file.write("".join(rows).encode())

    def cut(self, step: int) -> None:
        """Remove the rows of this step and later ones, which a run that goes on from there writes again, and a last one
        cut short. Other damaged rows stay, for whoever can read them."""
        if self.path.is_file():
            rows = self.path.read_bytes().splitlines(keepends=True)
            kept = [
                row for row in rows if row.endswith(b"\n") and not ((found := metrics_row(row)) and found[1] >= step)
            ]
            atomic_write(self.path, b"".join(kept))

    @override
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: fields are in run.json."""
