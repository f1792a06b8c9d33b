"""Several validations an epoch."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class Validations(Callback):
    """Has the Trainer validate `count` times an epoch, evenly spread, the last time at its end.

    Lightning's own `val_check_interval` rounds down: of 11 batches it makes 5 quarters, and does not validate the last.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        batches, done = int(trainer.num_training_batches), batch_idx + 1
        due = done * self.count // batches > batch_idx * self.count // batches
        trainer.val_check_batch = done if due else done + 1
