"""A loss that is no number stops the run before it reaches the weights."""

from __future__ import annotations

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from src.experiment import InputError


class FiniteLoss(Callback):
    """Raises before the backward pass of a NaN or infinite loss. On an accelerator, where looking at the loss makes the
    host wait, only each `every`-th step is looked at.

    Args:
        every: steps between two looks on an accelerator.
    """

    def __init__(self, every: int = 50) -> None:
        self.every = every

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        if loss.device.type != "cpu" and trainer.global_step % self.every:
            return
        if not torch.isfinite(loss):
            rates = ", ".join(f"{group['lr']:.3g}" for group in trainer.optimizers[0].param_groups)
            raise InputError(
                f"the loss is {loss.item()} at step {trainer.global_step} (epoch {trainer.current_epoch + 1}), "
                f"learning rate {rates}. Lower --optim.lr, add --optim.warmup 0.1 or --grad-clip 1, or try "
                "--precision 32-true. "
                "The checkpoints of the epochs before are good."
            )
