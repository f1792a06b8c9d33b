"""A run of two processes; the second fails alone: python failing.py TABLE setup|step."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the class has to be of a module that has its name, in each process
    sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

from lightning.pytorch import Callback, LightningModule, Trainer

from experiments.tables import TableRegression
from src.cli import commands
from src.cli.parser import RunFlags
from src.configs.spec import DataSpec
from src.experiment import InputError
from src.tasks import Task


def second() -> bool:
    return os.environ.get("LOCAL_RANK") == "1"


class NoMemory(Callback):
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if second() and trainer.global_step == 3:
            raise RuntimeError("no memory left")


class Failing(TableRegression):
    """Fails where it is told to, in the second process."""

    target = "price"
    batch_size = 8
    max_epochs = 4
    accelerator = "cpu"
    devices = "2"
    strategy = "ddp"
    logger = ("csv",)
    fails_in: str = "step"

    def task(self, spec: DataSpec) -> Task:
        if self.fails_in == "setup" and second():
            raise InputError("no disk there")
        return super().task(spec)

    def callbacks(self) -> list[Callback]:
        return [NoMemory()] if self.fails_in == "step" else []


if __name__ == "__main__":
    import failing

    experiment = failing.Failing(data_dir=Path(sys.argv[1]), fails_in=sys.argv[2])
    sys.exit(commands.run_all([experiment], RunFlags()))
