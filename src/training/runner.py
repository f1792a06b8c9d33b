"""From an experiment to a finished, recorded run: the one place that calls `Trainer.fit`."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import shutil
import socket
import statistics
import time
from pathlib import Path
from typing import Any

import lightning
import pandas as pd
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping, Timer
from lightning.pytorch.utilities import rank_zero_only

from src.callbacks import Evaluation, Every, Interrupted
from src.configs.errors import InputError
from src.configs.training import Imbalance
from src.datamodules import DataModule, Fold, Tensors
from src.datamodules.base import SPLITS
from src.experiment import ClassificationExperiment, Experiment
from src.resources.files import write_json
from src.runs import records, state, summary
from src.runs.metrics_csv import MetricsCsv
from src.runs.tensorboard import TensorBoard
from src.tasks import Objective, Task
from src.training.features import cache_features
from src.training.precision import faster, measured_speeds
from src.training.trainer import build_callbacks, build_trainer


def explain(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:  # a full disk, a missing right
        return f"{error.filename or 'a file'}: {error.strerror}."
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"


def run(
    asked: Experiment,
    *,
    test: bool = False,
    baselines: bool = False,
    resume: Path | None = None,
    checkpoint_every: Every | None = None,
    same_data_as: Path | None = None,
    fold: Fold | None = None,
    child: Path | None = None,
) -> Path:
    """Train an experiment, evaluate its best checkpoint, and return the run directory.

    Args:
        asked: as the user wants it; what cannot be had here is replaced by `Experiment.resolve`.
        test: read the test set too.
        baselines: fit scikit-learn's baselines to the same split.
        resume: the directory of a run to go on with. If that is done, it is only evaluated.
        checkpoint_every: how often to save within an epoch.
        same_data_as: a run whose data these have to be.
        fold: of a cross-validation; a run that is resumed knows its own.
        child: the run's directory, where a parent's says it has to be.

    Raises:
        InputError: anything the user can put right. The record says failed, and why.
        Interrupted: the record says interrupted; `last.ckpt` is there if a step was made.
    """
    main = is_rank_zero()
    if resume:
        before = records.load(resume)
        if main:
            refuse_running(resume, before)
        fold = Fold(**before["fold"]) if "fold" in before else fold
    folder = resume or child or (records.create(type(asked)) if main else records.runs_dir() / "of-rank-0")
    if child and main:
        folder.mkdir(exist_ok=True)
    started = time.monotonic()
    try:
        with state.heartbeat(folder) if main else contextlib.nullcontext():
            _run(asked, folder, test, baselines, resume is not None, checkpoint_every, same_data_as, fold)
    except BaseException as error:
        if main:
            with contextlib.suppress(OSError):  # the disk is full for the record too; `state.state_of` sees it died
                record_failure(asked, folder, error, time.monotonic() - started)
            if isinstance(error, Interrupted) and child is None:
                summary.interrupted(folder)
        raise
    return folder


def refuse_running(folder: Path, record: dict[str, Any]) -> None:
    """Raise an InputError where another process is at work on the run."""
    other = (record.get("host"), record.get("pid")) != (socket.gethostname(), os.getpid())
    if other and state.state_of(folder, record) == "running":
        raise InputError(
            f"{folder}: process {record['pid']} on {record['host']} is at work on this run. Stop it first, or wait."
        )


def is_rank_zero() -> bool:
    """Return whether this process writes: the others of a distributed run write nothing.

    NODE_RANK is of Lightning's own launch over several machines.
    """
    return getattr(rank_zero_only, "rank", 0) == 0 and os.environ.get("NODE_RANK", "0") == "0"


def record_failure(asked: Experiment, folder: Path, error: BaseException, seconds: float) -> None:
    """Write why a run ended early; one that was done before stays done."""
    if not (folder / "run.json").exists():
        records.start(folder, asked, asked)
    before = records.load(folder)
    if before["state"] != "done":
        state = "interrupted" if isinstance(error, Interrupted) else "failed"
        seconds += before.get("wall_s", 0.0)
        records.update(folder, state=state, reason=explain(error), wall_s=round(seconds, 1))


def _run(
    asked: Experiment,
    folder: Path,
    test: bool,
    baselines: bool,
    resume: bool,
    checkpoint_every: Every | None,
    same_data_as: Path | None,
    fold: Fold | None,
) -> None:
    started = time.monotonic()
    experiment = asked.resolve()
    before = records.load(folder) if resume else {}
    if resume:
        refuse_replaced(asked, experiment, before)
    finished = before.get("state") == "done"
    if finished and not (test or baselines):
        raise InputError(f"{folder}: the run is done. Add --test to test it, or start a new one.")
    last = folder / "checkpoints" / "last.ckpt"
    step = (check(last) if last.exists() else 0) if resume and not finished else None
    earlier = records.load(same_data_as) if same_data_as else before
    known = earlier.get("precision") if experiment.precision == "auto" else None
    table = MetricsCsv(folder)
    build = functools.partial(
        build_trainer,
        experiment,
        build_callbacks(experiment, folder, checkpoint_every),
        logger=[table, TensorBoard(folder, purge_step=step)],
    )
    trainer = build(precision=known)
    main = trainer.is_global_zero
    if main and not resume:
        records.start(folder, experiment, asked)
    datamodule, task = build_parts(experiment, fold, folder if resume else None)
    if test:
        datamodule.require_test()
    if baselines:
        datamodule.baseline_inputs("val")  # what cannot be is said before the training
    if "data" in earlier and earlier["data"]["fingerprint"] != datamodule.fingerprint:
        raise InputError(
            f"{same_data_as or folder}: the data has changed since the run began ({earlier['data']['source']}); "
            "start a new one."
        )
    if same_data_as and not fold:
        require_same_examples(same_data_as, datamodule)
    speeds = measured_speeds(experiment, task, datamodule, trainer) if known is None else {}
    if speeds:
        trainer = build(precision=faster(speeds))
    if main:
        again = {} if finished else {"fields": experiment.to_json()} | state.process()
        again |= {"fold": dataclasses.asdict(fold)} if fold else {}
        measured = speeds or (earlier.get("precision_speeds", {}) if known else {})
        again |= {"precision_speeds": measured} if measured else {}
        records.update(folder, **describe(experiment, datamodule, task, trainer), **again)
        datamodule.save(folder)
        write_json(folder / "split.json", {split: datamodule.ids(split) for split in datamodule.sizes()})
        summary.before(records.load(folder), folder)
    reason, data = "", datamodule
    if not finished:
        if main:
            require_space(folder, task, averaged=experiment.averaging != "none")
            if step is not None:
                table.cut(step)
        data = prepare_features(task, datamodule, trainer, resumed=last.exists(), test=test) or datamodule
        reason = fit(experiment, trainer, task, data, last)
    result = evaluate(trainer, task, datamodule, data, folder, test=test)
    if main:
        if not finished:
            seconds = before.get("wall_s", 0.0) + time.monotonic() - started
            result |= {"state": "done", "reason": reason, "wall_s": round(seconds, 1)}
            result |= training_figures(folder, experiment)
        if finished:  # what was measured before stays
            result = {name: before.get(name, {}) | found for name, found in result.items()}
        if baselines:
            from src.training.baselines import fit_baselines

            tested = "test/loss" in result["metrics"]
            result["baselines"] = fit_baselines(datamodule, ("val", "test") if tested else ("val",))
        records.update(folder, **result)
        record = records.load(folder)
        board(trainer).log_run(*summary.comparable(record, folder))
        if baselines:
            board(trainer).log_table("baselines", summary.rows(record))
        summary.after(record, folder)


def fit(experiment: Experiment, trainer: Trainer, task: Task, datamodule: DataModule, last: Path) -> str:
    """Train, from `last` if that is there; return why the training ended."""
    if experiment.compile:
        task.model.compile()
    lightning.seed_everything(experiment.seed, workers=True, verbose=False)  # whether features were cached or computed
    if last.exists() and trainer.is_global_zero:
        print(f"resume     from {last}", flush=True)
    trainer.fit(task, datamodule=datamodule, ckpt_path=last if last.exists() else None, weights_only=True)
    return why_stopped(trainer, experiment)


def refuse_replaced(asked: Experiment, resolved: Experiment, before: dict[str, Any]) -> None:
    """Raise an InputError where what a run began with cannot be had now, and another would take its place."""
    wanted, found, kept = asked.to_json(), resolved.to_json(), before["fields"]
    for name in found:
        if found[name] != wanted[name] and name in kept and kept[name] != found[name]:
            raise InputError(
                f"--{name.replace('_', '-')} {kept[name]}: the run was begun with it, and it cannot be had here now. "
                "Bring it back to go on; predict.py needs nothing but the run."
            )


def require_same_examples(run: Path, datamodule: DataModule) -> None:
    """Raise an InputError where data are validated or tested on other examples than another run's."""
    kept = json.loads((run / "split.json").read_text())
    for split in [split for split in datamodule.sizes() if split != "train"]:
        if strange := {*map(str, datamodule.ids(split))} - {*map(str, kept[split])}:
            raise InputError(
                f"{run}: has no {split} example {min(strange)}, and this run has it. They need the same validation and "
                "test examples; leave out what draws them with the seed (--labelled)."
            )


def require_space(folder: Path, task: Task, *, averaged: bool = False) -> None:
    """Raise an InputError where the disk cannot hold the run's checkpoints: best, last, and one being written."""
    weights = sum(value.numel() * value.element_size() for value in task.state_dict().values())
    trained = sum(p.numel() * p.element_size() for p in task.parameters() if p.requires_grad)
    need = 3 * ((1 + averaged) * weights + 2 * trained)  # Adam keeps two numbers a weight
    free = shutil.disk_usage(folder).free
    if free < need:
        raise InputError(
            f"{folder}: {free / 1e6:.0f} MB free, and the run's checkpoints take up to {need / 1e6:.0f} MB. Make room, "
            "or set LEYDEN_RUNS to another folder."
        )


def check(checkpoint: Path) -> int:
    """Return the step of a checkpoint.

    Raises:
        InputError: it is damaged.
    """
    try:
        return torch.load(checkpoint, map_location="meta", weights_only=True)["global_step"]
    except Exception as error:  # torch raises a dozen kinds for damaged files
        raise InputError(
            f"{checkpoint}: damaged ({str(error).partition('.')[0]}). Copy best.ckpt over it, or start a new run."
        ) from error


def why_stopped(trainer: Trainer, experiment: Experiment) -> str:
    for callback in trainer.early_stopping_callbacks:
        if isinstance(callback, EarlyStopping) and callback.wait_count >= callback.patience:
            return f"no better {callback.monitor} for {callback.patience} validations"
        if isinstance(callback, EarlyStopping) and callback.stopping_reason_message:
            return callback.stopping_reason_message
    if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= trainer.current_epoch:
        return f"max_epochs {trainer.max_epochs} reached"
    if 0 <= trainer.max_steps <= trainer.global_step:
        return f"max_steps {trainer.max_steps} reached"
    timers: list[Any] = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]  # pyright: ignore[reportAttributeAccessIssue]
    if any((left := timer.time_remaining()) is not None and left <= 0 for timer in timers):
        return f"max_time {experiment.max_time} is over"
    return "stopped by a callback"


def board(trainer: Trainer) -> TensorBoard:
    return next(logger for logger in trainer.loggers if isinstance(logger, TensorBoard))


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


def evaluate(
    trainer: Trainer, task: Task, datamodule: DataModule, data: DataModule, folder: Path, *, test: bool
) -> dict[str, Any]:
    """Validate, and test if asked, the best checkpoint on `data`, which is `datamodule` or the features kept of it.

    Returns:
        'metrics' and 'per_class' for the record.
    """
    callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    callbacks.append(Evaluation(folder, datamodule, task.objective, board(trainer)))
    loggers, trainer.loggers = trainer.loggers, []  # these numbers are no point of the training's curves
    best = getattr(trainer.checkpoint_callback, "best_model_path", "") or str(folder / "checkpoints" / "best.ckpt")
    if test and trainer.is_global_zero:  # counted before anything of it can be seen
        records.update(folder, tests_read=records.load(folder)["tests_read"] + 1)
    metrics: dict[str, float] = {}
    for evaluated in (trainer.validate, trainer.test) if test else (trainer.validate,):
        metrics |= evaluated(task, datamodule=data, ckpt_path=best, verbose=False, weights_only=True)[0]
    trainer.loggers = loggers
    splits = (("val", "test") if test else ("val",)) if trainer.is_global_zero else ()
    per_class = {split: found for split in splits if (found := report(folder, split, task.objective))}
    return {"metrics": metrics} | ({"per_class": per_class} if per_class else {})


def report(folder: Path, split: str, objective: Objective) -> dict[str, Any]:
    """Return the objective's figures of each class, from the predictions just written, maybe by a spawned process."""
    rows = pd.read_csv(folder / f"predictions_{split}.csv", dtype=str, keep_default_na=False)
    return objective.report(*objective.read(rows))


def describe(experiment: Experiment, datamodule: DataModule, task: Task, trainer: Trainer) -> dict[str, Any]:
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
            "predicts_files": datamodule.can_predict,
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


def training_figures(folder: Path, experiment: Experiment) -> dict[str, Any]:
    """Return the best value of `monitor`, the first of equals, and the training's speed, from the run's metrics."""
    rows = records.metrics(folder)
    points = [(value, epoch, step) for epoch, step, name, value in rows if name == experiment.monitor]
    value, epoch, step = (min if experiment.mode == "min" else max)(points, key=lambda point: point[0])
    speeds = [value for _, _, name, value in rows if name == "train/samples_per_s"]
    best = {"name": experiment.monitor, "value": value, "epoch": epoch, "step": step}
    return {"best": best, "samples_per_s": round(statistics.median(speeds), 2) if speeds else None}
