"""Refuses to choose checkpoints by a metric that is not there."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer

from src.configs.errors import InputError, did_you_mean
from src.tasks import Task


class KnownMonitor(Callback):
    """Raises an InputError after the first validation, or the trial of it before training, that lacks the metric.

    A module of the user's own may log what it likes; see `Checkpoints.on_train_epoch_end`.

    Args:
        monitor: name of the metric.
    """

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        there = trainer.callback_metrics
        if isinstance(pl_module, Task) and trainer.state.fn == "fit" and self.monitor not in there:
            names = sorted(name for name in there if not name.startswith("train/"))
            hint = did_you_mean(self.monitor, names)
            raise InputError(f"--monitor {self.monitor}: no such metric.{hint} There: {', '.join(names) or 'none'}.")
