"""A training that ends where another process has taken its run over."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from src.runs.records import Record


class OnlyWriter(Callback):
    """Raises `TakenOver` before anything is saved or logged of a run that another process works on now: this process
    was stopped, or its host slept, until another host took it for dead.

    Args:
        record: the run's.
    """

    def __init__(self, record: Record) -> None:
        self.record = record

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self.record.update(reason="")  # no longer setting up

    def _require_ours(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            self.record.require_ours()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._require_ours(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._require_ours(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._require_ours(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._require_ours(trainer)
