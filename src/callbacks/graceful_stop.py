"""Ctrl-C, SIGTERM, or SIGUSR1 before Slurm's time is over: finish the step, save, and end as interrupted."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from src.callbacks.checkpoints import is_safe_to_checkpoint

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""Windows has no SIGUSR1."""


class Interrupted(BaseException):
    """The process was asked to stop. Not a KeyboardInterrupt, which Lightning turns into `exit(1)`."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class GracefulStop(Callback):
    """On a signal, lets the training step end, saves `last` and raises `Interrupted`; a second signal does not wait.

    Args:
        last: where to save.
    """

    def __init__(self, last: Path) -> None:
        self.last = last
        self.received = 0
        self._installed = contextlib.ExitStack()

    def _receive(self, number: int, frame: object) -> None:
        if self.received:
            raise Interrupted(number)
        self.received = number
        print(f"\n{signal.Signals(number).name}: stopping after this step or the next (again: at once)", flush=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._installed.enter_context(handling(self._receive))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if is_safe_to_checkpoint(trainer, batch_idx):  # the last batch waits for validation
            self._stop(trainer, save=True)

    def _stop(self, trainer: Trainer, *, save: bool) -> None:
        if trainer.strategy.reduce_boolean_decision(bool(self.received), all=False):
            if save:
                trainer.save_checkpoint(self.last)
            raise Interrupted(self.received or signal.SIGTERM)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop(trainer, save=False)  # `Checkpoints` has

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._installed.close()
        self._stop(trainer, save=False)  # `Checkpoints` has

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._installed.close()


@contextlib.contextmanager
def handling(receive: Callable[[int, Any], None]) -> Iterator[None]:
    """Handle `SIGNALS` with `receive`, as far as this is the main thread; afterwards as before."""
    process = os.getpid()

    def here(number: int, frame: object) -> None:
        if os.getpid() == process:  # a forked worker inherits the handler
            receive(number, frame)

    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, here) for number in SIGNALS} if main else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interrupt(number: int, frame: object) -> None:
    """Signal handler for everything that is not a training step: stop at once."""
    raise Interrupted(number)
