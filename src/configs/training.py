"""Choices of a training."""

from __future__ import annotations

from typing import Literal

Accelerator = Literal["auto", "cpu", "gpu", "tpu", "mps"]
Averaging = Literal["none", "ema", "swa"]
Imbalance = Literal["none", "weights", "sampler", "focal", "logit_adjust"]
Logger = Literal["tensorboard", "wandb", "mlflow", "csv"]
MatmulPrecision = Literal["highest", "high", "medium"]
Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true"]
