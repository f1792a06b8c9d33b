"""What an export is made of: the run's networks, its preparation, and validation examples that nothing has prepared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.configs.errors import InputError
from src.datamodules import DataModule
from src.datamodules.capabilities import PredictsFiles
from src.datamodules.preparation import Preparation
from src.datamodules.texts.preparation import TextPreparation
from src.deploy.graph import Graph
from src.experiment import Experiment
from src.inference.own_data import Examples, data_of, examples_of, moved_to
from src.inference.predictor import OwnParts, load_run, parts_of
from src.resources.files import digest_of
from src.runs import records, state
from src.tasks import Task

SPLIT = "val"
MAX_EXAMPLES = 2000
"""Validation examples that are compared at the most."""


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
    graph = Graph(tasks, preparation_of, names, record.get("calibration", {}), longest, record.get("shares"))
    experiment = moved_to(experiments[0], data_dir)
    return Parts(run, record, members, experiment, preparations, graph)


def require_done(run: Path, record: Mapping[str, Any]) -> None:
    """Raise an InputError where a run is at work, has failed or was stopped, or is a search."""
    records.refuse_study(run, record, "Export")
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
    return examples_of(data_of(parts.members[0], parts.experiment), SPLIT, MAX_EXAMPLES)


def tensors(arrays: dict[str, Any]) -> dict[str, Tensor]:
    """Return arrays, or what are tensors already, as tensors."""
    return {name: torch.as_tensor(np.ascontiguousarray(values)) for name, values in arrays.items()}
