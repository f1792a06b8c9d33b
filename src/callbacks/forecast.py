"""How long the training will take, said after its first steps."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import psutil
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer

from src.callbacks.stopwatch import IN_STEP, Stopwatch
from src.tasks import Task
from src.terminal import console

LEAST = 10.0
"""Seconds that the rest has to take for a word about it."""
STEPS, SECONDS = 4, 2.0
"""The forecast rests on at least so many batches and so many seconds."""


class Forecast(Callback):
    """Prints once when the training will be over and the most memory it has taken, measured on its own first batches.

    The very first batch is left out: it allocates and compiles. A validation counts as long as those before it,
    with what they saved, or, where none has been, as long as data and forward of so many training batches.

    Args:
        validations: an epoch.
    """

    def __init__(self, validations: int = 1) -> None:
        self.validations = validations
        self.stopwatch: Stopwatch | None = None
        self.batches = self.validated = 0
        self.started = 0.0
        self.before: dict[str, float] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        profiler: Any = trainer.profiler  # pyright: ignore[reportAttributeAccessIssue]
        if trainer.is_global_zero and isinstance(profiler, Stopwatch):
            self.stopwatch = profiler

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validated += trainer.num_sanity_val_steps == math.inf or not trainer.sanity_checking

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.stopwatch is None:
            return
        self.batches += 1
        if self.batches == 1:
            self.before, self.started = self.stopwatch.seconds(), time.monotonic()
        elif self.batches > STEPS and time.monotonic() - self.started > SECONDS:
            rest = self.rest(trainer, self.stopwatch.seconds(), batch_idx + 1)
            self.stopwatch = None
            if LEAST < rest < math.inf:
                aside = "; it can end sooner" if trainer.early_stopping_callback else ""
                if isinstance(pl_module, Task) and pl_module.input.resizes:
                    aside += "; images grow, and with them time and memory"
                console.line("expected", f"{spoken(rest)} more{aside}; {memory(pl_module.device)} so far")

    def rest(self, trainer: Trainer, now: dict[str, float], done: int) -> float:
        """Return the seconds that are left, of an epoch of which so many batches are done."""
        batch = {part: (now[part] - self.before[part]) / (self.batches - 1) for part in IN_STEP}
        per_epoch, accumulated = trainer.num_training_batches, trainer.accumulate_grad_batches
        most = trainer.max_epochs or -1
        epochs = most - trainer.current_epoch if most > 0 else math.inf
        batches = epochs * per_epoch - done
        if trainer.max_steps >= 0:
            batches = min(batches, (trainer.max_steps - trainer.global_step) * accumulated)
        validation = (batch["data"] + batch["forward"]) * sum(trainer.num_val_batches)
        if self.validated:
            validation = (now["validation"] + now["checkpoint"]) / self.validated
        seconds = batches * sum(batch.values()) + batches / per_epoch * self.validations * validation
        timers = (callback for callback in trainer.callbacks if isinstance(callback, Timer))  # pyright: ignore[reportAttributeAccessIssue]
        return min([seconds, *(left for timer in timers if (left := timer.time_remaining()) is not None)])


def memory(device: torch.device) -> str:
    """Return the most memory that this process has had, of the GPU where it trains there."""
    if device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB of the GPU's memory"
    if sys.platform == "win32":  # has no `resource`
        return f"{psutil.Process().memory_info().rss / 1e9:.1f} GB of memory"
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9:.1f} GB of memory"


def spoken(seconds: float) -> str:
    """Return a duration as a person would say it: 'about 50 s', 'about 12 min', 'about 3.5 h'."""
    if seconds < 100:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 6000 else f"about {seconds / 3600:.1f} h"
