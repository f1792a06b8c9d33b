"""A training that is ended from outside, since it is not worth going on with: a trial of a search."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

AfterValidation = Callable[[int, float], str]
"""Takes the number of a validation, from 1, and the monitored value; returns why to stop, or ''."""


class Pruning(Callback):
    """Asks after each validation whether to go on, and ends the training where the answer is a reason.

    A run that goes on from a checkpoint asks again of the validations after it, and not of those before it.

    Args:
        monitor: the metric whose value is told. A validation in which it is missing or NaN is not asked of.
        ask: what decides.
    """

    def __init__(self, monitor: str, ask: AfterValidation) -> None:
        self.monitor, self.ask = monitor, ask
        self.reason = ""
        self.validations = 0
        """So far; a checkpoint has it, as Lightning's own counts begin anew with each epoch."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.reason:  # the run was killed after it had stopped
            trainer.should_stop = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self.validations += 1
        value = trainer.callback_metrics.get(self.monitor)
        if value is None or math.isnan(value):
            return
        if reason := self.ask(self.validations, float(value)):
            self.reason = reason
            trainer.should_stop = True

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"reason": self.reason, "validations": self.validations}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.reason, self.validations = state_dict["reason"], state_dict["validations"]
