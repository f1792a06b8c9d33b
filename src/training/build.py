"""From an experiment to its data and its task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from src.configs.errors import InputError
from src.configs.spec import DataSpec
from src.configs.training import Imbalance
from src.datamodules import DataModule, Fold, Tensors
from src.datamodules.split_names import SPLITS
from src.experiment import ClassificationExperiment, Experiment
from src.tasks import Task
from src.terminal import console
from src.training.features import cache_features
from src.training.plain import require_parts


def make_datamodule(experiment: Experiment, fold: Fold | None = None) -> LightningDataModule:
    """Seed everything and return the experiment's data module, or a fold of it. Nothing is read yet.

    Raises:
        InputError: a data module of one's own is asked for what only Leyden's can do.
    """
    lightning.seed_everything(experiment.seed, workers=True, verbose=False)
    datamodule = experiment.datamodule()
    if isinstance(datamodule, DataModule):
        datamodule.fold, datamodule.quarantine = fold, experiment.quarantine
        datamodule.balanced = imbalance_of(experiment) == "sampler"
        return datamodule
    wanted = {"--folds": fold, "--quarantine": experiment.quarantine}
    for flag in (flag for flag, value in wanted.items() if value is not None):
        raise InputError(
            f"{flag}: {type(datamodule).__name__} does not name its examples. Wrap its data sets in datamodules.Plain."
        )
    return datamodule


def build_data(experiment: Experiment, fold: Fold | None = None) -> DataModule:
    """Return the experiment's data, or a fold of them, set up.

    Raises:
        InputError: as for their `setup`, or it is a data module of one's own.
    """
    datamodule = make_datamodule(experiment, fold)
    if not isinstance(datamodule, DataModule):
        raise InputError(f"{type(datamodule).__name__}: wrap its data sets in datamodules.Plain to do this.")
    datamodule.setup("fit")
    return datamodule


def build_parts(experiment: Experiment, fold: Fold | None = None) -> tuple[DataModule, Task]:
    """Return the experiment's data, or a fold of them, set up, and its task, as one device trains it.

    Raises:
        InputError: as for `build_task`, or they are modules of one's own.
    """
    datamodule = make_datamodule(experiment, fold)
    task = build_task(set_up(experiment, datamodule), datamodule)
    if not (isinstance(task, Task) and isinstance(datamodule, DataModule)):
        raise InputError(f"{type(experiment).__name__} has a module or data module of your own, which cannot do this.")
    return datamodule, task


def set_up(
    experiment: Experiment,
    datamodule: LightningDataModule,
    resumed: Path | None = None,
    *,
    devices: int = 1,
    recorded: bool = False,
) -> Experiment:
    """Set up the data and return the experiment as it suits their number.

    Args:
        experiment: what is run.
        datamodule: its data.
        resumed: the directory of the run to go on with, whose data these have to be.
        devices: that share the training examples.
        recorded: the fields are those of a run whose data changed none: all stay as they are.

    Raises:
        InputError: as for the data's `setup`, or the experiment leaves its epochs to data that cannot be counted.
    """
    if not isinstance(datamodule, DataModule):
        if experiment.max_epochs is None:
            raise InputError(f"--max-epochs None: {type(datamodule).__name__} does not tell its size. Give a number.")
        return experiment
    if resumed and (resumed / "split.json").exists():  # written when all of the data is
        datamodule.restore(resumed)
    datamodule.setup("fit")
    if recorded and experiment.max_epochs is not None:
        return experiment
    sized = experiment.sized(datamodule.sizes()["train"], devices)
    if sized.batch_size != experiment.batch_size:
        datamodule.batch_size = sized.batch_size
    return sized


def build_task(experiment: Experiment, datamodule: LightningDataModule) -> LightningModule:
    """Return the task, built from the spec of data that are set up.

    Raises:
        InputError: the parts do not go together, or cannot do what the experiment's fields ask for.
    """
    imbalance = imbalance_of(experiment)
    lightning.seed_everything(experiment.seed, workers=True, verbose=False)  # weights do not depend on what setup drew
    task = experiment.task(datamodule.spec if isinstance(datamodule, DataModule) else DataSpec())
    require_parts(task, datamodule, type(experiment).__name__)
    if isinstance(task, Task) and isinstance(datamodule, DataModule):
        task.set_imbalance_strategy(imbalance)
        assert experiment.max_epochs is not None  # as `set_up` has seen to
        task.try_out(experiment.max_epochs)
        task.require_outputs(next(iter(datamodule.loader("val"))))
    elif imbalance != "none":
        raise InputError(f"--imbalance {imbalance}: {type(task).__name__} is a module of your own. Leave the flag out.")
    return task


def compiled(task: LightningModule) -> Any:
    """Return the task with torch.compile applied to what trains: the network, or its head where only that runs.

    Sizes that vary are variables in the compiled code from the start. A module of one's own is compiled as Lightning
    does: its steps. Either before DDP wraps it, whose buckets torch then follows.
    """
    if not isinstance(task, Task):
        return torch.compile(task)
    trained = task.head if task.cached_features == "probe" else task.model
    trained.compile(dynamic=task.input.varies or None)
    return task


def imbalance_of(experiment: Experiment) -> Imbalance:
    return experiment.imbalance if isinstance(experiment, ClassificationExperiment) else "none"


def prepare_features(
    task: Task, datamodule: DataModule, trainer: Trainer, *, resumed: bool, test: bool
) -> DataModule | None:
    """Compute the features that the task caches and hand them over; return them as data if the rest is frozen."""
    if task.cached_features == "no" or (task.cached_features == "start" and resumed):
        return None
    all_frozen = task.cached_features == "probe"
    # Validate the solved head in full: it may be the best.
    trainer.num_sanity_val_steps = 0 if resumed else float("inf")
    cached = cache_features(task, datamodule, trainer, SPLITS if all_frozen and test else ("train", "val"))
    if not resumed and (said := task.start_from_features(cached)) and trainer.is_global_zero:
        console.line("head", said)
    if not all_frozen:
        return None
    tensors = Tensors(
        cached,
        datamodule.spec,
        ids={split: datamodule.ids(split) for split in cached},
        batch_size=datamodule.batch_size,
        num_workers=datamodule.num_workers,
        seed=datamodule.seed,
    )
    tensors.balanced = datamodule.balanced
    return tensors
