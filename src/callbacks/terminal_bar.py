"""The progress bar of a terminal."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from typing_extensions import override

from src.terminal import console

EVERY = 0.2
"""Seconds between two drawings."""


def wanted() -> bool:
    """Return whether standard output is a terminal that a bar can be drawn in."""
    return console.in_terminal() and os.environ.get("TERM") not in ("dumb", "unknown")


class TerminalBar(ProgressBar):
    """One line at the bottom of the terminal: the epoch's batches or the validation's. Printed lines go above it.
    At the end it disappears.

    It has no thread, unlike rich's own and Lightning's `RichProgressBar`: a process forked while a thread holds the
    console's lock could never print.
    """

    def __init__(self) -> None:
        super().__init__()
        self.enabled = True
        self.progress: Progress | None = None
        self.training: TaskID | None = None
        self.evaluating: TaskID | None = None
        self.evaluated = 0
        self.drawn = 0.0
        self._drawing = contextlib.ExitStack()

    @override
    def disable(self) -> None:
        self.enabled = False

    @override
    def enable(self) -> None:
        self.enabled = True

    # ------------------------------------------------------------------------------------------------------- training
    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        of = f"/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
        self.training = self._begin(f"epoch {trainer.current_epoch + 1}{of}", self.total_train_batches, self.training)

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.training is None:  # a run that goes on within an epoch does not start one
            self.on_train_epoch_start(trainer, pl_module)
        self._move(self.training, batch_idx + 1)

    # ----------------------------------------------------------------------------------------------------- evaluation
    @override
    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin_evaluation("start", trainer.num_sanity_val_batches)

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._begin_evaluation("validation", trainer.num_val_batches)

    @override
    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self.evaluated += 1
        self._move(self.evaluating, self.evaluated)

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end_evaluation()

    @override
    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin_evaluation("test", trainer.num_test_batches)

    @override
    def on_test_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self.evaluated += 1
        self._move(self.evaluating, self.evaluated)

    @override
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end_evaluation()

    def _begin_evaluation(self, what: str, batches: Sequence[float]) -> None:
        self.evaluated = 0
        if self.progress and self.training is not None:
            self.progress.update(self.training, visible=False)
        self.evaluating = self._begin(what, sum(batches), self.evaluating)

    def _end_evaluation(self) -> None:
        if self.progress and self.evaluating is not None:
            self.progress.update(self.evaluating, visible=False)
            if self.training is not None:
                self.progress.update(self.training, visible=True)
            self.progress.refresh()

    # -------------------------------------------------------------------------------------------------------- drawing
    def _begin(self, what: str, batches: float, before: TaskID | None) -> TaskID | None:
        """Draw a bar in place of one from before; return its id, or None where this process draws none."""
        if not self.enabled:
            return None
        if self.progress is None:
            out = console.current()
            self.progress = Progress(
                TextColumn(f"{{task.description:<{console.LABEL}}}", style=console.OTHERS, markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("batches"),
                TimeRemainingColumn(),
                console=out,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._drawing.enter_context(console.above(out))
            self._drawing.enter_context(self.progress)
            out.show_cursor()  # rich hides it, and a process that is killed would leave it so
        if before is not None:
            self.progress.remove_task(before)
        return self.progress.add_task(what, total=batches if math.isfinite(batches) else None)

    def _move(self, bar: TaskID | None, done: int) -> None:
        if self.progress and bar is not None and time.monotonic() - self.drawn > EVERY:
            self.progress.update(bar, completed=done, refresh=True)
            self.drawn = time.monotonic()

    def _stop(self) -> None:
        self._drawing.close()
        self.progress = self.training = self.evaluating = None

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._stop()

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop()
