"""All that Leyden uses of Lightning's private names; each has a test that fails when Lightning changes it."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch.optim.swa_utils import AveragedModel


def restart_loader(trainer: Trainer) -> None:
    """Have the epoch of a training that goes on begin its data loader anew."""
    fit_loop: Any = trainer.fit_loop
    iter(fit_loop._data_fetcher)


def keep_average_on(callback: WeightAveraging, device: torch.device) -> None:
    """Choose where the averaged weights will be; it is known after the callback has been made."""
    callback._device = device


def average_of(callback: WeightAveraging) -> AveragedModel | None:
    """Return the averaged weights of a training, None before it."""
    return callback._average_model


def starter(trainer: Trainer) -> _SubprocessScriptLauncher | None:
    """Return what starts the other processes of a training by this one's command; None where nothing does."""
    launcher = trainer.strategy.launcher
    return launcher if isinstance(launcher, _SubprocessScriptLauncher) else None


def is_connected(logger: WandbLogger) -> bool:
    """Return whether a logger has begun its run; asking for its experiment would begin one."""
    return logger._experiment is not None
