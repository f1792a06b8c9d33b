"""What a record says of a run: its parts before training, its scores after."""

from __future__ import annotations

import dataclasses
import statistics
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

from src.callbacks import Checkpoints, Evaluation
from src.datamodules import DataModule
from src.experiment import Experiment
from src.runs import records
from src.runs.records import Record, Values
from src.tasks import Objective, Task
from src.training.loggers import tensorboard_of


def evaluate(
    trainer: Trainer, task: Task, datamodule: DataModule, data: DataModule, record: Record, *, test: bool
) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the best checkpoint's metrics, and each split's figures of the classes, if there are any.

    Args:
        trainer: that has trained it.
        task: what was trained.
        datamodule: the data, which names and shows the examples.
        data: what the network takes: `datamodule`, or the features cached of it.
        record: the run's.
        test: test too, not only validate.
    """
    callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    callbacks.append(Evaluation(record, datamodule, task.objective, tensorboard_of(trainer)))
    loggers, trainer.loggers = trainer.loggers, []  # these numbers are no point of the training's curves
    ours = next(callback for callback in callbacks if isinstance(callback, Checkpoints))
    best = ours.best_model_path or str(record.folder / "checkpoints" / "best.ckpt")
    if test and trainer.is_global_zero:  # counted before anything of it can be seen
        record.update(tests_read=record["tests_read"] + 1)
    metrics: dict[str, float] = {}
    for evaluated in (trainer.validate, trainer.test) if test else (trainer.validate,):
        metrics |= evaluated(task, datamodule=data, ckpt_path=best, verbose=False, weights_only=True)[0]
    trainer.loggers = loggers
    splits = (("val", "test") if test else ("val",)) if trainer.is_global_zero else ()
    per_class = {split: found for split in splits if (found := report(record.folder, split, task.objective))}
    return metrics, per_class


def report(folder: Path, split: str, objective: Objective) -> dict[str, Any]:
    """Return the objective's figures of each class, from the predictions just written, maybe by a spawned process."""
    rows = pd.read_csv(folder / f"predictions_{split}.csv", dtype=str, keep_default_na=False)
    return objective.report(*objective.read(rows))


def describe(experiment: Experiment, datamodule: DataModule, task: Task, trainer: Trainer) -> Values:
    """Return what the record says of data, weights, model and device before training."""
    found = datamodule.loaded
    return {
        "data": {
            "source": found.source,
            "stand_in": found.fallback,
            "split": found.split,
            "fingerprint": datamodule.fingerprint,
            "sizes": datamodule.sizes(),
            "class_counts": datamodule.class_counts(),
            "notes": datamodule.notes,
        },
        "spec": dataclasses.asdict(datamodule.spec),
        "weights": {"source": task.weights_source},
        "model": {
            "name": type(task.model).__name__,
            "parameters": sum(p.numel() for p in task.parameters()),
            "trained": sum(p.numel() for p in task.parameters() if p.requires_grad),
        },
        "device": f"{trainer.strategy.root_device.type} x {trainer.world_size}",
        "precision": trainer.precision,
        "reproducible": reproducible(trainer),
        "steps": planned_steps(experiment, datamodule, trainer),
    }


def reproducible(trainer: Trainer) -> str:
    """Return how near the same numbers a second run comes."""
    kind = trainer.strategy.root_device.type
    if kind != "cpu" and not torch.are_deterministic_algorithms_enabled():
        return f"up to rounding: {kind} adds in any order, unless trainer_kwargs() sets deterministic=True"
    return f"to the bit with these versions, on this kind of processor, with {torch.get_num_threads()} threads"


def planned_steps(experiment: Experiment, datamodule: DataModule, trainer: Trainer) -> int:
    """Return the optimiser steps of all epochs, early stopping aside."""
    batches = len(datamodule.batches("train", train=True, world_size=trainer.world_size))
    batches = min(batches, experiment.limit_train_batches or batches)
    return -(-batches // experiment.accumulate) * experiment.max_epochs


def training_figures(folder: Path, experiment: Experiment) -> Values:
    """Return the best value of `monitor`, the first of equals, and the training's speed, from the run's metrics."""
    rows = records.metrics(folder)
    points = [(value, epoch, step) for epoch, step, name, value in rows if name == experiment.monitor]
    value, epoch, step = (min if experiment.mode == "min" else max)(points, key=lambda point: point[0])
    speeds = [value for _, _, name, value in rows if name == "train/samples_per_s"]
    best = {"name": experiment.monitor, "value": value, "epoch": epoch, "step": step}
    return {"best": best, "samples_per_s": round(statistics.median(speeds), 2) if speeds else None}
