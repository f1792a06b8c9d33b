"""Optimiser and learning-rate schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from src.configs.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Optim:
    """Optimiser and learning-rate schedule, one value. Built by `src/tasks/task.py`."""

    name: str = "adamw"
    """Optimiser: adamw, adam and sgd are torch's own; else one of timm's, such as lamb, lion or nadamw."""
    lr: float = 1e-3
    """Peak learning rate: that of the head where `layer_decay` lowers it for the layers below."""
    weight_decay: float = 0.01
    """Decay of weight matrices and kernels; norms, biases and what a network's no_weight_decay() names have none."""
    momentum: float = 0.9
    """Momentum of sgd and of those of timm's that have one; adam and adamw do not read it."""
    layer_decay: float = 1.0
    """Factor on the rate for each layer group further from the head (ULMFiT, Howard & Ruder 2018, 3.2)."""
    unfreeze: bool = False
    """Train the head alone in the first epoch, and one more layer group in each further one (ULMFiT, 3.3)."""
    schedule: Literal["cosine", "linear", "step", "constant", "one_cycle"] = "cosine"
    """Course of the rate after the warm-up: to zero by cosine or line, by steps, or none. one_cycle is linear, with the
    momentum running the other way, from 0.95 to 0.85 and back (Smith & Topin 2018, arXiv 1708.07120)."""
    warmup: float = 0.0
    """Share of all steps over which the rate rises linearly from zero."""
    step_share: float = 0.33
    """Share of all steps between two drops of the step schedule."""
    step_factor: float = 0.1
    """Factor of each drop of the step schedule."""
    l1: float = 0.0
    """Weight of the L1 penalty on what weight decay would act on."""

    def __post_init__(self) -> None:
        for name, low, high in (("warmup", 0, 1), ("layer_decay", 0, 1), ("step_share", 0, 1), ("momentum", 0, 1)):
            if not low <= getattr(self, name) <= high:
                raise InputError(f"--optim.{name.replace('_', '-')} {getattr(self, name)}: between {low} and {high}.")
        for name in ("lr", "weight_decay", "l1", "step_factor"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"--optim.{name.replace('_', '-')} {getattr(self, name)}: a number from 0 on.")
