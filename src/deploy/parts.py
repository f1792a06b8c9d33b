"""What an export is made of: the run's networks, its preparation, and validation examples that nothing has prepared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.configs.errors import InputError
from src.datamodules import DataModule, Fold, PredictionInput
from src.datamodules.capabilities import GivesRawInputs, PredictsFiles, require
from src.datamodules.preparation import Preparation
from src.deploy.graph import Graph
from src.experiment import Experiment
from src.inference.exported import digest_of
from src.inference.predictor import load_run, parts_of
from src.runs import records
from src.tasks import Task
from src.training.build import make_datamodule, set_up

SPLIT = "val"
MOST = 2000
"""Validation examples that are compared at the most; of more, as many at even distances."""


@dataclass(frozen=True, eq=False)
class Parts:
    """A run, taken apart."""

    run: Path
    record: dict[str, Any]
    members: list[Path]
    """The run itself, or its children."""
    experiment: Experiment
    """Of the first member."""
    preparations: list[Preparation]
    """Those that differ."""
    graph: Graph


@dataclass(frozen=True, eq=False)
class Examples:
    """Examples of a run's validation split."""

    datamodule: DataModule
    positions: list[int]
    """In the split."""
    raw: Sequence[PredictionInput]
    """As the user has them: files, texts, or a table."""

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def ids(self) -> list[str]:
        names = self.datamodule.ids(SPLIT)
        return [str(names[position]) for position in self.positions]

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Return some of the examples as the training's own evaluation has them."""
        dataset: Any = self.datamodule.dataset(SPLIT, train=False)
        return dataset[[self.positions[row] for row in rows]]


def take_apart(run: Path) -> Parts:
    """Load what an export is made of.

    Raises:
        InputError: the run is not done, or its experiment cannot be exported with its preparation.
    """
    record = records.load(run)
    if record["state"] != "done":
        raise InputError(
            f"{run}: the run is {record['state']}, and only one that is done is exported. Go on with it: run.py "
            f"--resume {run}"
        )
    members = parts_of(run, record, [])
    tasks: list[Task] = []
    preparations: list[Preparation] = []
    known: list[str] = []
    preparation_of: list[int] = []
    experiments: list[Experiment] = []
    for member in members:
        experiment, spec, task = load_run(member)
        datamodule = experiment.datamodule()
        require(datamodule, PredictsFiles, str(run), "has no preparation of raw inputs, which an export needs.")
        assert isinstance(datamodule, DataModule)
        assert isinstance(datamodule, PredictsFiles)
        datamodule.restore(member)
        preparation = datamodule.preparation(spec)
        if (key := _key(preparation)) not in known:
            known.append(key)
            preparations.append(preparation)
        preparation_of.append(known.index(key))
        tasks.append(task)
        experiments.append(experiment)
    names = {"image": ("image",), "text": ("tokens", "mask"), "table": ("numbers", "categories")}[preparations[0].kind]
    graph = Graph(tasks, preparation_of, names, record.get("calibration", {}))
    return Parts(run, record, members, experiments[0], preparations, graph)


def _key(preparation: Preparation) -> str:
    """Return what is equal for preparations that do the same."""
    with TemporaryDirectory() as folder:
        preparation.save(Path(folder))
        return " ".join(f"{path.name} {digest_of(path)}" for path in sorted(Path(folder).iterdir()))


def validation_examples(parts: Parts) -> Examples:
    """Return examples of the validation split of a run, or of its first child.

    Raises:
        InputError: the data are gone, or are others by now.
    """
    first = parts.members[0]
    record = records.load(first)
    fold = Fold(**record["fold"]) if "fold" in record else None
    datamodule = make_datamodule(parts.experiment, fold)
    require(datamodule, GivesRawInputs, str(parts.run), "does not give its examples as a user would predict them.")
    assert isinstance(datamodule, DataModule)
    assert isinstance(datamodule, GivesRawInputs)
    set_up(parts.experiment, datamodule, first, recorded=True)
    if datamodule.fingerprint != record["data"]["fingerprint"]:
        raise InputError(
            f"{parts.run}: the data have changed since (fingerprint {datamodule.fingerprint}, then "
            f"{record['data']['fingerprint']}), so the export cannot be checked on the run's own. Put them back, or "
            "name them: --data-dir."
        )
    count = datamodule.sizes()[SPLIT]
    positions = np.unique(np.linspace(0, count - 1, min(MOST, count)).round().astype(int)).tolist()
    return Examples(datamodule, positions, datamodule.raw_inputs(SPLIT, positions))


def tensors(arrays: dict[str, Any]) -> dict[str, Tensor]:
    """Return arrays, or what are tensors already, as tensors."""
    return {name: torch.as_tensor(np.ascontiguousarray(values)) for name, values in arrays.items()}
