"""A run's own data: set up again as its record has them, and checked to be the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from src.configs.errors import InputError
from src.datamodules import DataModule, Fold, PredictionInput
from src.datamodules.capabilities import GivesRawInputs, require
from src.experiment import Experiment
from src.runs import records
from src.training.build import make_datamodule, set_up


@dataclass(frozen=True, eq=False)
class Examples:
    """Some examples of a split of a run's own data."""

    datamodule: DataModule
    split: str
    positions: list[int]
    """In the split."""
    raw: Sequence[PredictionInput]
    """As the user has them: files, texts, or a table."""

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def ids(self) -> list[str]:
        names = self.datamodule.ids(self.split)
        return [str(names[position]) for position in self.positions]

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Return some of the examples as the training's own evaluation has them."""
        dataset: Any = self.datamodule.dataset(self.split, train=False)
        return dataset[[self.positions[row] for row in rows]]


def moved_to(experiment: Experiment, data_dir: Path | None) -> Experiment:
    """Return an experiment with its data where they are now; raise an InputError where they have moved from there."""
    if data_dir is not None:
        return replace(experiment, data_dir=data_dir)
    if experiment.data_dir is not None and not Path(experiment.data_dir).exists():
        raise InputError(f"{experiment.data_dir}: the run's data are no longer there. Name them with --data-dir.")
    return experiment


def data_of(run: Path, experiment: Experiment) -> DataModule:
    """Return the data module of a run, or of a fold, set up as it was.

    Args:
        run: no parent, whose children have data of their own.
        experiment: of the run; see `moved_to`.

    Raises:
        InputError: the data are gone, or are others by now.
    """
    record = records.load(run)
    fold = Fold(**record["fold"]) if "fold" in record else None
    datamodule = make_datamodule(experiment, fold)
    require(datamodule, GivesRawInputs, str(run), "does not give its examples as a user would predict them.")
    assert isinstance(datamodule, DataModule)
    set_up(experiment, datamodule, run, recorded=True)
    require_same_data(run, datamodule.fingerprint, record)
    return datamodule


def examples_of(datamodule: DataModule, split: str, wanted: int | Sequence[int]) -> Examples:
    """Return examples of a split.

    Args:
        datamodule: after `setup`.
        split: train, val or test.
        wanted: positions, or how many at the most, at even distances.
    """
    assert isinstance(datamodule, GivesRawInputs)
    if isinstance(wanted, int):
        count = datamodule.sizes()[split]
        positions = np.unique(np.linspace(0, count - 1, min(wanted, count)).round().astype(int)).tolist()
    else:
        positions = [*wanted]
    return Examples(datamodule, split, positions, datamodule.raw_inputs(split, positions))


def require_same_data(run: Path, fingerprint: str, record: Mapping[str, Any]) -> None:
    """Raise an InputError where the data are not those of the run."""
    if fingerprint != (then := record["data"]["fingerprint"]):
        raise InputError(
            f"{run}: the data have changed since (fingerprint {fingerprint}, then {then}), so they are not the run's "
            "own. Put them back, or name them: --data-dir."
        )
