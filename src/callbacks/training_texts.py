"""How long the training texts are, how fast they go by, and how much of their batches is padding."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from src.runs.tensorboard import VISUALS, TensorBoard


class TrainingTexts(Callback):
    """Logs train/tokens_per_s and train/padding, the share of all token places that hold none, once an epoch; after the
    first epoch a histogram of the lengths goes to TensorBoard. Speeds leave validation out.
    """

    def __init__(self) -> None:
        self.lengths: list[Tensor] = []
        self.places = self.tokens = 0
        """Of this epoch; tokens of those batches alone that a run which goes on within it saw before."""
        self.seconds = self.started = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.started = time.monotonic()  # a run that goes on within an epoch does not start one

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.lengths, self.places, self.tokens, self.seconds = [], 0, 0, 0.0
        self.started = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if isinstance(batch, Mapping) and "mask" in batch:
            self.lengths.append(batch["mask"].sum(1))
            self.places += batch["mask"].numel()

    def state_dict(self) -> dict[str, Any]:
        tokens = int(torch.cat(self.lengths).sum()) if self.lengths else 0
        return {"places": self.places, "tokens": self.tokens + tokens}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.places, self.tokens = state_dict["places"], state_dict["tokens"]

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds += time.monotonic() - self.started

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.started = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.lengths:
            return
        seconds = self.seconds + time.monotonic() - self.started
        lengths = torch.cat(self.lengths).cpu()
        tokens = int(lengths.sum())
        values = {
            "train/tokens_per_s": tokens * trainer.world_size / seconds,
            "train/padding": 1 - (self.tokens + tokens) / self.places,
            "epoch": trainer.current_epoch,
        }
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step - 1)
            if isinstance(logger, TensorBoard) and trainer.current_epoch == 0:
                logger.experiment.add_histogram(f"{VISUALS}/train/length", lengths, trainer.global_step)
