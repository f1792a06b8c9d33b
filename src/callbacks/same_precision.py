"""Processes that would compute in different arithmetics are refused."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer

from src.configs.errors import InputError


class SamePrecision(Callback):
    """Compares all processes' precision with the first's, before anything is trained or evaluated.

    Each machine chooses by its own hardware, so machines of different kinds may differ.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        of_first = trainer.strategy.broadcast(trainer.precision)
        if not trainer.strategy.reduce_boolean_decision(of_first == trainer.precision):
            raise InputError(
                f"--precision auto: the first machine would compute in {of_first}, and another differs. "
                "Choose one that all have, such as --precision 32-true."
            )
