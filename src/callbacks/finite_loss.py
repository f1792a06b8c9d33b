"""A loss that is no number stops the run before it reaches a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from src.configs.errors import InputError


class FiniteLoss(Callback):
    """Stops at a NaN or infinite loss.

    On the CPU before its backward pass; on an accelerator, where looking at the loss makes the host wait, within
    `every` steps and always before a validation and a checkpoint.

    Args:
        folder: where checkpoints are.
        every: steps between two looks on an accelerator.
    """

    def __init__(self, folder: Path, every: int = 50) -> None:
        self.folder, self.every = folder, every
        self.bad: Tensor | None = None

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        bad = ~loss.detach().isfinite()
        self.bad = bad if self.bad is None else self.bad | bad
        if loss.device.type == "cpu" or trainer.global_step % self.every == 0:
            self._look(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._look(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._look(trainer)

    def _look(self, trainer: Trainer) -> None:
        if not trainer.strategy.reduce_boolean_decision(bool(self.bad), all=False):
            return
        rate = max(group["lr"] for group in trainer.optimizers[0].param_groups)
        kept = [path for name in ("last", "best") if (path := self.folder / f"{name}.ckpt").exists()]
        good = f"The last good checkpoint is {kept[0]}." if kept else "No epoch had ended, so there is no checkpoint."
        raise InputError(
            f"the loss is no finite number at step {trainer.global_step} (epoch {trainer.current_epoch + 1}), learning "
            f"rate {rate:.3g}. Lower --optim.lr, add --optim.warmup 0.1 or --grad-clip 1, or try "
            f"--precision 32-true. {good}"
        )
