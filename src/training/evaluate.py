"""What a record says of a run: its parts before training, its scores after."""

from __future__ import annotations

import dataclasses
import math
import statistics
from pathlib import Path
from typing import Any

import lightning
import pandas as pd
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from src.callbacks import Evaluation
from src.configs.spec import DataSpec
from src.datamodules import DataModule
from src.datamodules.capabilities import KnowsColumns, PredictsFiles
from src.experiment import Experiment
from src.runs import records
from src.runs.hints import LAST_SHOWN, still_improving
from src.runs.records import Record
from src.runs.values import Values
from src.tasks import Objective, Task
from src.tasks.objectives import default_objective
from src.training.loggers import tensorboard_of
from src.training.plain import EXACTNESS, SPLIT_SEED, look_at, validates

BEST = "checkpoints/best.ckpt"
"""In the run directory: what is evaluated."""
MOST_NAMED = 5
"""Absent classes of a split that are named."""


def evaluate(
    trainer: Trainer,
    task: LightningModule,
    datamodule: LightningDataModule,
    data: LightningDataModule,
    record: Record,
    best: Path,
    *,
    test: bool,
) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the best checkpoint's metrics, and each split's figures of the classes, if there are any.

    Predictions are kept where the data module is Leyden's, which names the examples, and a step returns them.

    Args:
        trainer: that has trained it.
        task: what was trained.
        datamodule: the data, which names and shows the examples.
        data: what the network takes: `datamodule`, or the features cached of it.
        record: the run's.
        best: where this process finds the best checkpoint.
        test: test too, not only validate.
    """
    callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    objective = None
    if isinstance(datamodule, DataModule):
        objective = task.objective if isinstance(task, Task) else default_objective(datamodule.spec)
        callbacks.append(Evaluation(record, datamodule, objective, tensorboard_of(trainer)))
    loggers, trainer.loggers = trainer.loggers, []  # these numbers are no point of the training's curves
    if test and trainer.is_global_zero:  # counted before anything of it can be seen
        record.update(tests_read=record["tests_read"] + 1)
    metrics: dict[str, float] = {}
    splits = [split for split, there in (("val", validates(task, datamodule)), ("test", test)) if there]
    for split in splits:
        if not isinstance(datamodule, DataModule):
            lightning.seed_everything(SPLIT_SEED, workers=True, verbose=False)
        evaluated = trainer.validate if split == "val" else trainer.test
        for found in evaluated(task, datamodule=data, ckpt_path=best, verbose=False, weights_only=True):
            metrics |= found
    trainer.loggers = loggers
    if objective is None or not trainer.is_global_zero:
        return metrics, {}
    return metrics, {split: figures for split in splits if (figures := report(record.folder, split, objective))}


def report(folder: Path, split: str, objective: Objective) -> dict[str, Any]:
    """Return the objective's figures of each class, from the predictions just written, maybe by a spawned process."""
    path = folder / f"predictions_{split}.csv"
    if not path.is_file():
        return {}
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    return objective.report(*objective.read(rows))


def describe(
    experiment: Experiment, datamodule: LightningDataModule, task: LightningModule, trainer: Trainer
) -> Values:
    """Return what the record says of data, weights, model and device before training."""
    if isinstance(datamodule, DataModule):
        loaded, spec = datamodule.loaded, datamodule.spec
        data: dict[str, Any] = {
            "source": loaded.source,
            "stand_in": loaded.fallback,
            "split": loaded.split,
            "fingerprint": datamodule.fingerprint,
            "sizes": datamodule.sizes(),
            "class_counts": datamodule.class_counts(),
            "notes": all_notes(datamodule),
            "columns": datamodule.kinds.to_json() if isinstance(datamodule, KnowsColumns) else None,
            "predicts_files": isinstance(datamodule, PredictsFiles),
        }
        batches = len(datamodule.batches("train", train=True, world_size=trainer.world_size))
    else:
        looked, spec = look_at(datamodule), DataSpec()
        name = f"{type(datamodule).__module__}.{type(datamodule).__qualname__}"
        data = {"source": name, "stand_in": False, "split": "as given", "class_counts": {}, "notes": [EXACTNESS]}
        data |= {"fingerprint": looked.fingerprint, "sizes": looked.sizes, "predicts_files": False}
        batches = math.ceil(looked.batches / trainer.world_size)
    network = task.model if isinstance(task, Task) else task
    return {
        "data": data,
        "spec": dataclasses.asdict(spec),
        "weights": {"source": task.weights_source if isinstance(task, Task) else "as given"},
        "model": {
            "name": type(network).__name__,
            "parameters": sum(p.numel() for p in task.parameters()),
            "trained": sum(p.numel() for p in task.parameters() if p.requires_grad),
        },
        "device": f"{trainer.strategy.root_device.type} x {trainer.world_size}",
        "precision": str(trainer.precision),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "reproducible": reproducible(trainer),
        "steps": planned_steps(experiment, batches),
    }


def changes(before: Experiment, sized: Experiment, datamodule: LightningDataModule) -> Values:
    """Return what the record says of fields that the size of the data has changed; nothing if it has changed none."""
    was, now = before.to_json(), sized.to_json()
    changed = {name: value for name, value in now.items() if value != was[name]}
    if not changed or not isinstance(datamodule, DataModule):
        return {}
    return {"sized": {"rows": datamodule.sizes()["train"], "was": {name: was[name] for name in changed}}}


def all_notes(datamodule: DataModule) -> list[str]:
    """Return what the plan, `run.json` and `check_data.py` say of the data."""
    return [*datamodule.notes, *absent_classes(datamodule)]


def absent_classes(datamodule: DataModule) -> list[str]:
    """Return a note for each split of the evaluation that lacks classes or labels: which metrics leave them out."""
    single = datamodule.spec.target.kind == "single_label"
    one, several = ("class", "classes") if single else ("label", "labels")
    always, others = ("balanced_acc, recall and auroc", "precision and f1") if single else ("map", "f1_macro")
    notes: list[str] = []
    for split, counts in datamodule.class_counts().items():
        absent = [name for name, count in counts.items() if not count]
        if split == "train" or not absent:
            continue
        shown = f"{one if len(absent) == 1 else several} {', '.join(absent[:MOST_NAMED])}"
        more = f" and {len(absent) - MOST_NAMED} more" if len(absent) > MOST_NAMED else ""
        undefined = "; auroc is NaN, which needs two" if single and len(counts) - len(absent) < 2 else ""
        left_out = f"left out of {always}, and of {others} unless predicted{undefined}"
        notes.append(f"{split} has no example of {shown}{more}: {left_out}")
    return notes


def reproducible(trainer: Trainer) -> str:
    """Return how near the same numbers a second run comes."""
    kind = trainer.strategy.root_device.type
    if kind != "cpu" and not torch.are_deterministic_algorithms_enabled():
        return f"up to rounding: {kind} adds in any order, unless --deterministic True"
    count = torch.get_num_threads()
    return f"to the bit with these versions, on this kind of processor, with {count} thread{'s' * (count > 1)}"


def planned_steps(experiment: Experiment, batches: int) -> int:
    """Return the optimiser steps of all epochs of so many batches, early stopping aside."""
    batches = min(batches, experiment.limit_train_batches or batches)
    assert experiment.max_epochs is not None  # as `set_up` has seen to
    return -(-batches // experiment.accumulate) * experiment.max_epochs


def training_figures(folder: Path, experiment: Experiment) -> Values:
    """Return the best value of `monitor`, if it was logged, the first of equals, and the training's speed; where it was
    always NaN, the last."""
    rows = records.metrics(folder)
    points = [(value, epoch, step) for epoch, step, name, value in rows if name == experiment.monitor]
    speeds = [value for _, _, name, value in rows if name == "train/samples_per_s"]
    figures: Values = {"samples_per_s": round(statistics.median(speeds), 2) if speeds else None}
    if points:
        seen = [point for point in points if not math.isnan(point[0])] or points[-1:]
        value, epoch, step = (min if experiment.mode == "min" else max)(seen, key=lambda point: point[0])
        monitored = {"name": experiment.monitor, "mode": experiment.mode}
        figures["best"] = monitored | {"value": value, "epoch": epoch, "step": step}
    return figures


def improving(folder: Path, experiment: Experiment, examples: int) -> Values:
    """Return the last values of `monitor` where it was still improving at the end of the epochs; else nothing.

    Args:
        folder: the run directory.
        experiment: what was trained.
        examples: of validation.
    """
    values = [value for _, _, name, value in records.metrics(folder) if name == experiment.monitor]
    found = still_improving(values, experiment.mode, examples)
    return {"still_improving": values[-LAST_SHOWN:]} if found else {}
