"""From an experiment to a finished, recorded run: the one place that calls `Trainer.fit`."""

from __future__ import annotations

import csv
import dataclasses
import os
import statistics
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.utilities import rank_zero_only

from src import records, summary
from src.callbacks import Evaluation, Interrupted
from src.callbacks.evaluation import figures
from src.callbacks.graceful_stop import handling, interrupt
from src.cli import RunFlags
from src.datamodules import DataModule, Tensors
from src.datamodules.base import SPLITS
from src.experiment import Experiment, InputError
from src.features import keep_features
from src.loggers import MetricsCsv, TensorBoard
from src.tasks import Task
from src.trainer import build_callbacks, build_trainer, quieten


def run_all(experiments: Sequence[Experiment], flags: RunFlags) -> int:
    """Run or plan each experiment; a failure is recorded and the rest go on.

    Returns:
        Exit code: 0 if all are done, 1 if one failed, 128 + signal if interrupted.
    """
    quieten()
    failed = 0
    with handling(interrupt):
        for number, experiment in enumerate(experiments):
            if number:
                print(flush=True)
            try:
                if flags.dry_run:
                    plan(experiment)
                else:
                    run(experiment, test=flags.test, resume=flags.resume)
            except Interrupted as stop:
                return stop.exit_code
            except Exception as error:
                failed += 1
                if not isinstance(error, InputError):
                    traceback.print_exception(error)
                print(f"error: {type(experiment).__name__}: {explain(error)}", file=sys.stderr, flush=True)
                if torch.distributed.is_available() and torch.distributed.is_initialized():
                    break  # the other processes may be elsewhere by now: no further run could agree with them
    if failed and len(experiments) > 1:
        print(f"{failed} of {len(experiments)} runs failed", file=sys.stderr)
    return 1 if failed else 0


def explain(error: BaseException) -> str:
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"


def plan(asked: Experiment) -> None:
    """Print what a run would be; train nothing and write no run directory."""
    experiment = asked.resolve()
    trainer = build_trainer(experiment, [], logger=False)
    datamodule, task = build_parts(experiment)
    record = records.head(experiment, asked) | describe(experiment, datamodule, task, trainer)
    summary.before(record, None)


def run(asked: Experiment, *, test: bool = False, resume: Path | None = None) -> Path:
    """Train an experiment, evaluate its best checkpoint, and return the run directory.

    Args:
        asked: as the user wants it; what cannot be had here is replaced by `Experiment.resolve`.
        test: read the test set too.
        resume: the directory of a run to go on with. If that is done, it is only evaluated.

    Raises:
        InputError: anything the user can put right. The record says failed, and why.
        Interrupted: the record says interrupted; `last.ckpt` is there if a step was made.
    """
    # The other processes of a distributed run write nothing. NODE_RANK: Lightning's own launch over several machines.
    main = getattr(rank_zero_only, "rank", 0) == 0 and os.environ.get("NODE_RANK", "0") == "0"
    if resume:
        records.load(resume)  # is it a run?
    folder = resume or (records.create(type(asked)) if main else records.runs_dir() / "of-rank-0")
    started = time.monotonic()
    try:
        _run(asked, folder, test=test, resume=resume is not None)
    except BaseException as error:
        if main:
            record_failure(asked, folder, error, time.monotonic() - started)
        raise
    return folder


def record_failure(asked: Experiment, folder: Path, error: BaseException, seconds: float) -> None:
    """Write why a run ended early; one that was done before stays done."""
    if not (folder / "run.json").exists():
        records.start(folder, asked, asked)
    before = records.load(folder)
    if before["state"] != "done":
        state = "interrupted" if isinstance(error, Interrupted) else "failed"
        seconds += before.get("wall_s", 0.0)
        records.update(folder, state=state, reason=explain(error), wall_s=round(seconds, 1))
        if isinstance(error, Interrupted):
            summary.interrupted(folder)


def _run(asked: Experiment, folder: Path, *, test: bool, resume: bool) -> None:
    started = time.monotonic()
    experiment = asked.resolve()
    before = records.load(folder) if resume else {}
    finished = before.get("state") == "done"
    if finished and not test:
        raise InputError(f"{folder}: the run is done. Add --test to test it, or start a new one.")
    trainer = build_trainer(
        experiment, build_callbacks(experiment, folder), logger=[MetricsCsv(folder), TensorBoard(folder)]
    )
    main = trainer.is_global_zero
    if main and not resume:
        records.start(folder, experiment, asked)
    datamodule, task = build_parts(experiment)
    if test:
        datamodule.require_test()
    if "data" in before and before["data"]["fingerprint"] != datamodule.fingerprint:
        raise InputError(
            f"{folder}: the data has changed since the run began ({before['data']['source']}); start a new one."
        )
    if main:
        again = {} if finished else {"fields": experiment.to_json(), "state": "running", "reason": ""}
        records.update(folder, **describe(experiment, datamodule, task, trainer), **again)
        datamodule.save(folder)
        records.write_json(folder / "split.json", {split: datamodule.ids(split) for split in datamodule.sizes()})
        summary.before(records.load(folder), folder)
    reason, data = "", datamodule
    if not finished:
        last = folder / "checkpoints" / "last.ckpt"
        data = prepare_features(task, datamodule, trainer, resumed=last.exists(), test=test) or datamodule
        reason = fit(experiment, trainer, task, data, last)
    result = evaluate(trainer, task, datamodule, data, folder, test=test)
    if main:
        if not finished:
            seconds = before.get("wall_s", 0.0) + time.monotonic() - started
            result |= {"state": "done", "reason": reason, "wall_s": round(seconds, 1)}
            result |= training_figures(folder, experiment)
        records.update(folder, **result)
        record = records.load(folder)
        board(trainer).log_run(*summary.comparable(record, folder))
        summary.after(record, folder)


def fit(experiment: Experiment, trainer: Trainer, task: Task, datamodule: DataModule, last: Path) -> str:
    """Train, from `last` if that is there; return why the training ended."""
    if experiment.compile:
        task.model.compile()
    lightning.seed_everything(experiment.seed, workers=True, verbose=False)  # whether features were cached or computed
    if last.exists():
        check(last)
        if trainer.is_global_zero:
            print(f"resume     from {last}; an epoch that was cut short sees its first batches again", flush=True)
    trainer.fit(task, datamodule=datamodule, ckpt_path=last if last.exists() else None, weights_only=True)
    return why_stopped(trainer, experiment)


def check(checkpoint: Path) -> None:
    """Raise an InputError for a checkpoint that is damaged."""
    try:
        torch.load(checkpoint, map_location="meta", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for damaged files
        raise InputError(
            f"{checkpoint}: damaged ({str(error).partition('.')[0]}). Copy best.ckpt over it, or start a new run."
        ) from error


def why_stopped(trainer: Trainer, experiment: Experiment) -> str:
    for callback in trainer.early_stopping_callbacks:
        if isinstance(callback, EarlyStopping) and callback.wait_count >= callback.patience:
            return f"no better {experiment.monitor} for {callback.patience} validations"
    if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= trainer.current_epoch:
        return f"max_epochs {trainer.max_epochs} reached"
    if 0 <= trainer.max_steps <= trainer.global_step:
        return f"max_steps {trainer.max_steps} reached"
    return f"max_time {experiment.max_time} is over" if experiment.max_time else "stopped by the Trainer"


def board(trainer: Trainer) -> TensorBoard:
    return next(logger for logger in trainer.loggers if isinstance(logger, TensorBoard))


def build_parts(experiment: Experiment) -> tuple[DataModule, Task]:
    """Seed everything, set up the data, and build the task from the data's spec."""
    lightning.seed_everything(experiment.seed, workers=True, verbose=False)
    datamodule = experiment.datamodule()
    datamodule.setup("fit")
    lightning.seed_everything(experiment.seed, workers=True, verbose=False)  # weights do not depend on what setup drew
    return datamodule, experiment.task(datamodule.spec)


def prepare_features(
    task: Task, datamodule: DataModule, trainer: Trainer, *, resumed: bool, test: bool
) -> DataModule | None:
    """Compute the features that the task keeps and hand them over; return them as data if the rest is frozen."""
    if task.kept_features == "no" or (task.kept_features == "start" and resumed):
        return None
    all_frozen = task.kept_features == "training"
    kept = keep_features(task, datamodule, trainer, SPLITS if all_frozen and test else ("train", "val"))
    line = task.start_from(kept)
    if trainer.is_global_zero:
        print(f"head       {line}", flush=True)
    if all_frozen:
        ids = {split: datamodule.ids(split) for split in kept}
        return Tensors(kept, datamodule.spec, ids=ids, batch_size=datamodule.batch_size, seed=datamodule.seed)
    trainer.num_sanity_val_steps = float("inf")  # validate the solved head in full: it may be the best
    return None


def evaluate(
    trainer: Trainer, task: Task, datamodule: DataModule, data: DataModule, folder: Path, *, test: bool
) -> dict[str, Any]:
    """Validate, and test if asked, the best checkpoint on `data`, which is `datamodule` or the features kept of it.

    Returns:
        'metrics' and 'per_class' for the record.
    """
    callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    callbacks.append(Evaluation(folder, datamodule, board(trainer)))
    loggers, trainer.loggers = trainer.loggers, []  # these numbers are no point of the training's curves
    best = getattr(trainer.checkpoint_callback, "best_model_path", "") or str(folder / "checkpoints" / "best.ckpt")
    if test and trainer.is_global_zero:  # counted before anything of it can be seen
        records.update(folder, tests_read=records.load(folder)["tests_read"] + 1)
    metrics: dict[str, float] = {}
    for evaluated in (trainer.validate, trainer.test) if test else (trainer.validate,):
        metrics |= evaluated(task, datamodule=data, ckpt_path=best, verbose=False, weights_only=True)[0]
    trainer.loggers = loggers
    splits = (("val", "test") if test else ("val",)) if trainer.is_global_zero else ()
    return {"metrics": metrics, "per_class": per_class(folder, datamodule, splits)}


def per_class(folder: Path, datamodule: DataModule, splits: Sequence[str]) -> dict[str, Any]:
    """Return the figures of each split from the predictions just written, maybe by a spawned process."""
    classes = datamodule.spec.classes
    found: dict[str, Any] = {}
    for split in splits:
        with open(folder / f"predictions_{split}.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        target, label = (np.array([classes.index(row[name]) for row in rows]) for name in ("target", "label"))
        found[split] = figures(target, label, classes)
    return found


def describe(experiment: Experiment, datamodule: DataModule, task: Task, trainer: Trainer) -> dict[str, Any]:
    """Return what the record says of data, weights, model and device before training."""
    found = datamodule.found
    return {
        "data": {
            "source": found.source,
            "stand_in": found.stand_in,
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
        "steps": planned_steps(experiment, datamodule, trainer),
    }


def planned_steps(experiment: Experiment, datamodule: DataModule, trainer: Trainer) -> int:
    """Return the optimiser steps of all epochs, early stopping aside."""
    batches = len(datamodule.batches("train", train=True, world_size=trainer.world_size))
    batches = min(batches, experiment.limit_train_batches or batches)
    return -(-batches // experiment.accumulate) * experiment.max_epochs


def training_figures(folder: Path, experiment: Experiment) -> dict[str, Any]:
    """Return the best value of `monitor`, the first of equals, and the training's speed, from the run's metrics."""
    rows = records.metrics(folder)
    points = [(value, epoch, step) for epoch, step, name, value in rows if name == experiment.monitor]
    value, epoch, step = (min if experiment.mode == "min" else max)(points, key=lambda point: point[0])
    speeds = [value for _, _, name, value in rows if name == "train/samples_per_s"]
    best = {"name": experiment.monitor, "value": value, "epoch": epoch, "step": step}
    return {"best": best, "samples_per_s": round(statistics.median(speeds), 2) if speeds else None}
