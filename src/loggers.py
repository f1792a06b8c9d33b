"""Where metrics go: `metrics.csv`, which everything else reads, and TensorBoard."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.tensorboard.summary import hparams
from typing_extensions import override

from src.records import printable, write_whole


class MetricsCsv(Logger):
    """Appends `time,epoch,step,name,value` to the run's `metrics.csv`, also when a run is resumed, where Lightning's
    CSVLogger begins anew. Epochs count from 1; 0 is before training.

    Args:
        run: the run directory.
    """

    def __init__(self, run: Path) -> None:
        super().__init__()
        self.path = run / "metrics.csv"
        self.epoch = 0

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
        """Remove the rows of this step and later ones: a run that goes on from there writes them again."""
        if self.path.is_file():
            header, *rows = self.path.read_bytes().splitlines(keepends=True) or [b""]
            kept = [row for row in rows if row.endswith(b"\n") and int(row.split(b",")[2]) < step]
            write_whole(self.path, b"".join([header, *kept]))

    @override
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: fields are in run.json."""


class TensorBoard(TensorBoardLogger):
    """Lightning's TensorBoardLogger writing into the run directory itself, without its `hparams.yaml`.

    Args:
        run: the run directory.
        purge_step: where the run goes on; TensorBoard hides what was logged there and later before.
    """

    def __init__(self, run: Path, purge_step: int | None = None) -> None:
        super().__init__(run, name="", version="", default_hp_metric=False, purge_step=purge_step)
        self.run = run

    @override
    @rank_zero_only
    def save(self) -> None:
        """Flush. The base would write an empty `hparams.yaml`; fields are in run.json."""
        self.experiment.flush()

    @rank_zero_only
    def log_table(self, name: str, rows: Sequence[Sequence[str]]) -> None:
        """Show a table as text; its first row is the header."""
        header, *body = (" | ".join(row) for row in rows)
        self.experiment.add_text(name, "\n".join([header, " | ".join("---" for _ in rows[0]), *body]))
        self.experiment.flush()

    @rank_zero_only
    def log_run(self, fields: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Fill the HPARAMS tab, once, at the end: flat fields, and the metrics to compare runs by."""
        shown = {
            name: value if isinstance(value, bool | int | float) else printable(str(value))
            for name, value in fields.items()
        }
        writer = self.experiment
        for name, value in metrics.items():
            writer.add_scalar(name, value)
        # The first of the three says which columns the tab has. TensorBoard believes one run for all, and those of
        # other experiments be missing; without any it takes every run's fields, those that differ first.
        for summary in hparams(shown, dict(metrics))[1:]:
            writer._get_file_writer().add_summary(summary)
        writer.flush()
