"""Runs that auto has done, and which of them it averages."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from src.configs.changes import with_fields
from src.datamodules import DataModule
from src.experiment import Experiment
from src.runs import records
from src.studies.ensemble import member_columns
from src.studies.selection import loss, select
from src.studies.trials import Trials
from src.tasks.objectives import default_objective

MOST = 25
"""The ensemble is chosen from so many runs, the best ones."""
MOST_IN_FOLDS = 8
"""So many runs are trained again on folds: those with the largest shares."""


class Attempt(NamedTuple):
    """A run that is done."""

    experiment: Experiment
    """With the setting."""
    setting: dict[str, Any]
    """Fields that are not as the candidate has them."""
    loss: float
    """Of what it predicts of the validation split; of one kind for all models."""
    seconds: float
    """That it took."""
    folds: tuple[Path, ...] = ()
    """The same setting, trained once a fold on the rest of train and val; () where it is not, or not on all."""


@dataclass
class Candidate:
    """A model that is tried, with its default setting first."""

    experiment: Experiment
    folder: Path
    seconds: float = 0.0
    """That its last run took."""
    trials: Trials | None = None
    done: dict[Path, Attempt] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return type(self.experiment).__name__

    @property
    def least(self) -> float:
        """The least loss of its runs."""
        return min(attempt.loss for attempt in self.done.values())

    def add(self, run: Path, setting: dict[str, Any], began: float) -> None:
        """Count in a run that began at a time, as far as it is done."""
        self.seconds = time.time() - began
        if (run / "run.json").is_file() and (record := records.load(run))["state"] == "done":
            experiment = with_fields(self.experiment, setting)
            self.done[run] = Attempt(experiment, setting, loss_of(run, record), self.seconds)


def loss_of(run: Path, record: dict[str, Any]) -> float:
    """Return the loss of a run's predictions of the validation split; see `selection.loss`."""
    spec = records.spec_of(record)
    rows = pd.read_csv(run / "predictions_val.csv", dtype=str, keep_default_na=False)
    predicted, target = default_objective(spec).read(rows)
    return loss(spec.target.kind, decisive(predicted), target)


def decisive(predicted: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the probabilities, or the numbers, of predictions."""
    return predicted["prob"] if "prob" in predicted else predicted["prediction"]


def for_folds(datamodule: DataModule, done: Mapping[Path, Attempt]) -> list[Path]:
    """Return the runs to train again on folds: those with the largest shares of the best average on validation.

    Args:
        datamodule: the data, set up.
        done: runs, the best first.
    """
    runs = list(done)[:MOST]
    return [*largest_first(runs, shares_of(datamodule, [[run] for run in runs]))][:MOST_IN_FOLDS]


def choose(datamodule: DataModule, done: Mapping[Path, Attempt]) -> dict[Path, float]:
    """Return the runs to average and the share of each, the largest share first.

    Where all runs that `for_folds` returns are trained on folds, the choice is among these. It is made on what each
    fold predicts of the examples that it was not trained on. Else the choice is among all runs, on validation.

    Args:
        datamodule: the data, set up.
        done: runs, the best first.
    """
    wanted = for_folds(datamodule, done)
    if all(done[run].folds for run in wanted):
        shares = shares_of(datamodule, [done[run].folds for run in wanted], of=("train", "val"))
        return largest_first(wanted, shares)
    runs = list(done)[:MOST]
    return largest_first(runs, shares_of(datamodule, [done[run].folds or [run] for run in runs]))


def largest_first(runs: Sequence[Path], shares: Sequence[float]) -> dict[Path, float]:
    """Return the share of each run that has one, the largest first."""
    pairs = sorted(zip(runs, shares, strict=True), key=lambda pair: -pair[1])
    return {run: share for run, share in pairs if share}


def shares_of(
    datamodule: DataModule, members: Sequence[Sequence[Path]], *, of: Sequence[str] = ("val",)
) -> list[float]:
    """Return the share of each member in the ensemble; a member is a run, or runs on folds."""
    columns = [member_columns(runs, "val", datamodule, of=of) for runs in members]
    return select(datamodule.spec.target.kind, [decisive(one) for one in columns], columns[0]["target"])
