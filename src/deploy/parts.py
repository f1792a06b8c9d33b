"""What an export is made of: the run's networks, its preparation, and validation examples that nothing has prepared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from src.datamodules.texts.preparation import TextPreparation
from src.deploy.graph import Graph
from src.experiment import Experiment
from src.inference.predictor import OwnParts, load_run, parts_of
from src.resources.files import digest_of
from src.runs import records, state
from src.tasks import Task
from src.training.build import make_datamodule, set_up

SPLIT = "val"
MAX_EXAMPLES = 2000
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


def moved_to(experiment: Experiment, data_dir: Path | None) -> Experiment:
    """Return an experiment with its data where they are now; raise an InputError where they have moved from there."""
    if data_dir is not None:
        return replace(experiment, data_dir=data_dir)
    if experiment.data_dir is not None and not Path(experiment.data_dir).exists():
        raise InputError(f"{experiment.data_dir}: the run's data are no longer there. Name them with --data-dir.")
    return experiment


def take_apart(run: Path, data_dir: Path | None = None) -> Parts:
    """Load what an export is made of.

    Args:
        run: that is exported.
        data_dir: where its data are now, if they have moved.

    Raises:
        OwnParts: the run has no preparation of raw inputs.
        InputError: the run is not done, or its experiment is not there.
    """
    record = records.load(run)
    require_done(run, record)
    members = parts_of(run, record, [])
    tasks: list[Task] = []
    preparations: list[Preparation] = []
    known: list[str] = []
    preparation_of: list[int] = []
    experiments: list[Experiment] = []
    for member in members:
        experiment, spec, task = load_run(member)
        datamodule = experiment.datamodule()
        if not (isinstance(datamodule, DataModule) and isinstance(datamodule, PredictsFiles)):
            raise OwnParts(f"{run}: {type(datamodule).__name__} has no preparation of raw inputs.")
        datamodule.restore(member)
        preparation = datamodule.preparation(spec)
        if (key := _key(preparation)) not in known:
            known.append(key)
            preparations.append(preparation)
        preparation_of.append(known.index(key))
        tasks.append(task)
        experiments.append(experiment)
    names = {"image": ("image",), "text": ("tokens", "mask"), "table": ("numbers", "categories")}[preparations[0].kind]
    longest = max(how.prep.max_length if isinstance(how, TextPreparation) else 0 for how in preparations)
    graph = Graph(tasks, preparation_of, names, record.get("calibration", {}), longest)
    experiment = moved_to(experiments[0], data_dir)
    return Parts(run, record, members, experiment, preparations, graph)


def require_done(run: Path, record: Mapping[str, Any]) -> None:
    """Raise an InputError where a run is at work, has failed or was stopped."""
    if (now := state.state_of(run, record)) == "done":
        return
    way_out = "Wait for it" if now == "running" else f"Go on with it: run.py --resume {run}"
    raise InputError(f"{run}: the run is {now}, and only one that is done is exported. {way_out}.")


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
    require_same_data(parts.run, datamodule.fingerprint, record)
    count = datamodule.sizes()[SPLIT]
    positions = np.unique(np.linspace(0, count - 1, min(MAX_EXAMPLES, count)).round().astype(int)).tolist()
    return Examples(datamodule, positions, datamodule.raw_inputs(SPLIT, positions))


def require_same_data(run: Path, fingerprint: str, record: Mapping[str, Any]) -> None:
    """Raise an InputError where the data are not those of the run."""
    if fingerprint != (then := record["data"]["fingerprint"]):
        raise InputError(
            f"{run}: the data have changed since (fingerprint {fingerprint}, then {then}), so the export cannot be "
            "checked on the run's own. Put them back, or name them: --data-dir."
        )


def tensors(arrays: dict[str, Any]) -> dict[str, Tensor]:
    """Return arrays, or what are tensors already, as tensors."""
    return {name: torch.as_tensor(np.ascontiguousarray(values)) for name, values in arrays.items()}
