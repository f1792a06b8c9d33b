"""Averaged weights are what is validated, saved as the model, and predicted with."""

from __future__ import annotations

from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_avg_fn
from typing_extensions import override

from src.callbacks.lightning_private import average_of, keep_average_on

DECAY = 0.999
"""Of the exponential average: Lightning's and torch's own."""
SWA_START = 0.75
"""Share of the epochs after which the equal average begins (Izmailov et al. 2018, section 4.1)."""


class Averaging(WeightAveraging):
    """Lightning's WeightAveraging of parameters and buffers, such as the running statistics of norms.

    A checkpoint's 'state_dict' is the average; the weights in training and how many were averaged are beside it.

    Args:
        kind: ema: average = d * average + (1 - d) * weights after each step, with d = min(0.999, (1 + n) / (10 + n))
            after n steps, so that it forgets the start in a short training too (as TensorFlow's
            ExponentialMovingAverage does). swa: the mean of the weights at three quarters of the epochs and at the end
            of each further one; before that the weights themselves.
    """

    def __init__(self, kind: Literal["ema", "swa"]) -> None:
        if kind == "ema":
            super().__init__(multi_avg_fn=exponential)
        else:  # torch's function for many tensors at once cannot average the norms' counts of batches
            super().__init__(avg_fn=get_swa_avg_fn())
        self.kind = kind
        self.epoch_over = self.too_early = False

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        keep_average_on(self, trainer.strategy.root_device)
        super().setup(trainer, pl_module, stage)

    @override
    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return step_idx is not None and (self.kind == "ema" or self.too_early or self.epoch_over)

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.epoch_over = trainer.is_last_batch
        self.too_early = self.kind == "swa" and trainer.current_epoch < SWA_START * (trainer.max_epochs or 0)
        if self.too_early and (average := average_of(self)) is not None:
            average.n_averaged.zero_()  # the next update copies
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    # What a run evaluates after its training is a checkpoint, whose weights are averaged already.
    @override
    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            super().on_validation_epoch_start(trainer, pl_module)

    @override
    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            super().on_validation_epoch_end(trainer, pl_module)

    @override
    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)


def exponential(averages: Any, weights: Any, count: Tensor | int) -> None:
    """Move averages towards weights, in place, after `count` steps; whole numbers, such as counts, are copied.

    Args:
        averages, weights: tensors of one dtype.
        count: steps.
    """
    if not averages[0].is_floating_point():  # lerp rounds down, and the average of equal ones would sink
        for average, weight in zip(averages, weights, strict=True):
            average.copy_(weight)
        return
    get_ema_multi_avg_fn(min(DECAY, (1 + int(count)) / (10 + int(count))))(averages, weights, count)
