"""Reseeds all generators at every step from (seed, epoch, batch, rank)."""

from __future__ import annotations

import importlib
import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from src.callbacks.lightning_private import restart_loader
from src.datamodules import DataModule


class StepSeeds(Callback):
    """Seeds each training step from (seed, epoch, batch, process).

    So a run that goes on draws what it would have drawn, whatever was drawn before and by how many devices, without a
    random state in its checkpoint; and processes draw apart.

    Args:
        seed: of the experiment.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed the order of an epoch that a data loader of one's own draws, the same in all processes.

        With the epoch that a run goes on with, Lightning has begun the loader before; it begins anew with the seed.
        """
        self._seed([self.seed, trainer.current_epoch], pl_module)
        fit_loop: Any = trainer.fit_loop
        if fit_loop.is_resuming and not isinstance(trainer.datamodule, DataModule):  # pyright: ignore[reportAttributeAccessIssue]
            restart_loader(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._seed([self.seed, trainer.current_epoch, batch_idx, trainer.global_rank], pl_module)

    def _seed(self, place: list[int], pl_module: LightningModule) -> None:
        number = int(np.random.SeedSequence(place).generate_state(1)[0])
        random.seed(number)
        np.random.seed(number)
        torch.default_generator.manual_seed(number)  # torch.manual_seed costs a stack trace where there is no GPU
        device = pl_module.device
        if device.type == "xla":  # torch has no module of that name
            importlib.import_module("torch_xla.core.xla_model").set_rng_state(number, str(device))
        elif device.type != "cpu":
            torch.get_device_module(device).manual_seed(number)
