"""How an experiment is run, as against what is run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from src.callbacks import AfterValidation, Every
from src.datamodules import Fold


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How to run an experiment; its fields say what. Parent runs set the last five for their children."""

    test: bool = False
    """Read the test set too."""
    baselines: bool = False
    """Fit scikit-learn's baselines to the same split."""
    resume: Path | None = None
    """The directory of a run to go on with. If that is done, it is only evaluated."""
    checkpoint_every: Every | None = None
    """How often to save within an epoch."""
    same_data_as: Path | None = None
    """A run that must have had the same data."""
    fold: Fold | None = None
    """Which part of the data is held out. A run that is resumed knows its own."""
    averaged: bool = False
    """Whether the run's predictions are to be averaged with others'."""
    child: Path | None = None
    """The run directory, for a child of another run. None: a new one is made."""
    after_validation: AfterValidation | None = None
    """Called after each validation with its number, from 1, and the monitored value; returns why to stop, or ''."""
