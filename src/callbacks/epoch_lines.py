"""One plain line an epoch, and the speed of training."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils._pytree import tree_leaves

from src.configs import shown
from src.terminal import console

SHOWN = ("train/loss", "train/acc", "val/loss", "val/acc", "val/rmse", "val/r2")
MOST_LINES = 25


class EpochLines(Callback):
    """Prints an epoch's losses, scores, seconds and samples/s, of many epochs only some; logs train/samples_per_s,
    validation left out.

    Args:
        monitor: a metric that is shown besides `SHOWN`.
    """

    def __init__(self, monitor: str) -> None:
        self.shown = dict.fromkeys((*SHOWN, monitor))
        self.started = self.validating = 0.0
        self.validated = 0.0
        self.samples = 0

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero and trainer.num_sanity_val_steps == float("inf"):
            console.line("start", self.scores(trainer))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.started = time.monotonic()  # a run that goes on within an epoch does not start one

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.started, self.validated, self.samples = time.monotonic(), 0.0, 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.samples += examples_in(batch) * trainer.world_size

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validating = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validated += time.monotonic() - self.validating
        within_epoch = trainer.state.fn == "fit" and not trainer.is_last_batch and not trainer.sanity_checking
        if trainer.is_global_zero and within_epoch:
            console.line(f"step {trainer.global_step:<5}", self.scores(trainer))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        seconds = time.monotonic() - self.started
        speed = self.samples / (seconds - self.validated)
        for logger in trainer.loggers:
            values = {"train/samples_per_s": speed, "epoch": trainer.current_epoch}
            logger.log_metrics(values, step=trainer.global_step - 1)
        every = -(-(trainer.max_epochs or 1) // MOST_LINES)
        if trainer.is_global_zero and (trainer.current_epoch + 1) % every == 0:
            number = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            console.line(number, f"{self.scores(trainer)}   {seconds:.1f} s, {speed:.3g} samples/s")

    def scores(self, trainer: Trainer) -> str:
        values = trainer.callback_metrics
        return "  ".join(f"{name} {shown.metric(float(values[name]))}" for name in self.shown if name in values)


def examples_in(batch: Any) -> int:
    """Return the number of examples of a batch: of its 'index', or else the first size of its first tensor."""
    if isinstance(batch, Mapping) and "index" in batch:
        return len(batch["index"])
    tensors = (part for part in tree_leaves(batch) if isinstance(part, Tensor) and part.ndim)
    return len(next(tensors, ()))
