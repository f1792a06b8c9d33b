"""From an experiment to its data and its task."""

from __future__ import annotations

from pathlib import Path

import lightning
from lightning.pytorch import Trainer

from src.configs.training import Imbalance
from src.datamodules import DataModule, Fold, Tensors
from src.datamodules.base import SPLITS
from src.experiment import ClassificationExperiment, Experiment
from src.tasks import Task
from src.training.features import cache_features


def build_data(experiment: Experiment, fold: Fold | None = None, resumed: Path | None = None) -> DataModule:
    """Seed everything and set up the data, or a fold of them, as those of the run to go on with."""
    lightning.seed_everything(experiment.seed, workers=True, verbose=False)
    datamodule = experiment.datamodule()
    datamodule.fold, datamodule.quarantine = fold, experiment.quarantine
    datamodule.balanced = imbalance_of(experiment) == "sampler"
    if resumed and (resumed / "split.json").exists():  # written when all of the data is
        datamodule.restore(resumed)
    datamodule.setup("fit")
    return datamodule


def build_parts(
    experiment: Experiment, fold: Fold | None = None, resumed: Path | None = None
) -> tuple[DataModule, Task]:
    """Seed everything, set up the data as `build_data` does, and build the task from the data's spec."""
    datamodule = build_data(experiment, fold, resumed)
    imbalance = imbalance_of(experiment)
    lightning.seed_everything(experiment.seed, workers=True, verbose=False)  # weights do not depend on what setup drew
    task = experiment.task(datamodule.spec)
    task.set_imbalance_strategy(imbalance)
    task.try_out(experiment.max_epochs)
    return datamodule, task


def imbalance_of(experiment: Experiment) -> Imbalance:
    return experiment.imbalance if isinstance(experiment, ClassificationExperiment) else "none"


def prepare_features(
    task: Task, datamodule: DataModule, trainer: Trainer, *, resumed: bool, test: bool
) -> DataModule | None:
    """Compute the features that the task keeps and hand them over; return them as data if the rest is frozen."""
    if task.cached_features == "no" or (task.cached_features == "start" and resumed):
        return None
    all_frozen = task.cached_features == "probe"
    trainer.num_sanity_val_steps = (
        0 if resumed else float("inf")
    )  # validate the solved head in full: it may be the best
    kept = cache_features(task, datamodule, trainer, SPLITS if all_frozen and test else ("train", "val"))
    if not resumed and (line := task.start_from_features(kept)) and trainer.is_global_zero:
        print(f"head       {line}", flush=True)
    if all_frozen:
        ids = {split: datamodule.ids(split) for split in kept}
        tensors = Tensors(
            kept,
            datamodule.spec,
            ids=ids,
            batch_size=datamodule.batch_size,
            num_workers=datamodule.num_workers,
            seed=datamodule.seed,
        )
        tensors.balanced = datamodule.balanced
        return tensors
    return None
