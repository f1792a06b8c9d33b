"""A loss that is no number stops the run before it reaches the weights."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from src.experiment import InputError


class FiniteLoss(Callback):
    """Raises before the backward pass of a NaN or infinite loss. On an accelerator, where looking at the loss makes the
    host wait, only each `every`-th step is looked at.

    Args:
        folder: where checkpoints are.
        every: steps between two looks on an accelerator.
    """

    def __init__(self, folder: Path, every: int = 50) -> None:
        self.folder, self.every = folder, every

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        if loss.device.type != "cpu" and trainer.global_step % self.every:
            return
        if not torch.isfinite(loss):
            rate = max(group["lr"] for group in trainer.optimizers[0].param_groups)
            kept = [path for name in ("last", "best") if (path := self.folder / f"{name}.ckpt").exists()]
            good = (
                f"The last good checkpoint is {kept[0]}." if kept else "No epoch had ended, so there is no checkpoint."
            )
            raise InputError(
                f"the loss is {loss.item()} at step {trainer.global_step} (epoch {trainer.current_epoch + 1}), "
                f"learning rate {rate:.3g}. Lower --optim.lr, add --optim.warmup 0.1 or --grad-clip 1, or try "
                f"--precision 32-true. {good}"
            )
