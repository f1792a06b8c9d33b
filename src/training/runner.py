"""From an experiment to a finished, recorded run: the one place that calls `Trainer.fit`."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, Timer

from src.callbacks import Interrupted, Pruning
from src.configs.errors import InputError
from src.datamodules import DataModule, Fold
from src.experiment import Experiment
from src.resources.files import write_json
from src.runs import records, state, summary
from src.runs.only_writer import only_writer
from src.runs.records import Record, TakenOver
from src.runs.values import Values
from src.tasks import Task
from src.terminal import console
from src.training.build import build_task, compiled, make_datamodule, prepare_features, set_up
from src.training.copies import Copies
from src.training.evaluate import BEST, changes, describe, evaluate, improving, training_figures
from src.training.failures import explain
from src.training.guards import (
    check,
    refuse_changed,
    refuse_data,
    refuse_parts,
    refuse_processes,
    refuse_replaced,
    require_space,
)
from src.training.loggers import connect, cut, log_result, open_loggers
from src.training.options import RunOptions
from src.training.peers import Peers, must_be_the_same
from src.training.plain import SPLIT_SEED
from src.training.precision import agreed_precision, faster, measured_speeds
from src.training.ranks import everyones, is_rank_zero, launched, meet, meeting, told
from src.training.trainer import build_callbacks, build_trainer
from src.training.used import Used

LAST = "checkpoints/last.ckpt"
"""In the run directory: what it goes on from."""


def run(requested: Experiment, options: RunOptions = RunOptions()) -> Path:
    """Train an experiment, evaluate its best checkpoint, and return the run directory.

    Args:
        requested: as the user wants it; what is not available here is replaced by `Experiment.resolve`.
        options: how to run it.

    Raises:
        InputError: anything the user can put right. The record says failed, and why.
        Interrupted: the record says interrupted; `last.ckpt` is there if a step was made.
    """
    meet(requested)
    main = is_rank_zero()
    with contextlib.ExitStack() as held:
        record, before = told(lambda: begin(requested, options, held))
        if "fold" in before:
            options = dataclasses.replace(options, fold=Fold(**before["fold"]))
        started, used = time.monotonic(), Used()
        peers = Peers(
            lambda error: record_failure(record, before, error, time.monotonic() - started, used), str(record.folder)
        )
        try:
            with state.heartbeat(record.folder, used.look) if main else contextlib.nullcontext():
                copies = Copies(record.folder)
                held.callback(copies.remove)
                _run(requested, options, record, before, peers, copies, used)
                peers.part()
        except BaseException as own:
            error = peers.cause(own)
            if main:
                with contextlib.suppress(OSError):  # a full disk is so for the record too; `state_of` sees that it died
                    record_failure(record, before, error, time.monotonic() - started, used)
                if isinstance(error, Interrupted) and options.child is None:
                    summary.interrupted(record.folder)
            if error is own:
                raise
            raise error from own
        finally:
            peers.leave()
    return record.folder


def begin(requested: Experiment, options: RunOptions, held: contextlib.ExitStack) -> tuple[Record, dict[str, Any]]:
    """Make or take over the run directory; return its record, and what that said before.

    Args:
        requested: as the user wants it.
        options: of the run.
        held: keeps other processes from writing to the run until it is closed.

    Raises:
        InputError: it cannot be made, or another process is at work there.
    """
    folder = options.resume or options.child or records.create(type(requested).__name__)
    if not options.resume:
        folder.mkdir(exist_ok=True)
    record = held.enter_context(only_writer(folder, resumed=options.resume is not None))
    before = dict(record)
    if not options.resume:
        kept: Values = {"launch": launched()}
        if options.fold:
            kept["fold"] = dataclasses.asdict(options.fold)
        record.start(requested, **kept)
    elif record["state"] != "done":
        record.go_on(launch=launched())
    return record, before


def record_failure(
    record: Record, before: Mapping[str, Any], error: BaseException, seconds: float, used: Used | None = None
) -> None:
    """Write why a run ended early. One that was to go on and did not come to train stays as it was `before`."""
    if isinstance(error, TakenOver) or before.get("state") == "done":
        return
    if before and record["reason"] == state.SETTING_UP:
        record.give_back(before)
        return
    ended = "interrupted" if isinstance(error, Interrupted) else "failed"
    wall_s = round(record.get("wall_s", 0.0) + seconds, 1)
    found: Values = {"state": ended, "reason": explain(error), "wall_s": wall_s}
    record.update(**(found | (used.values(before) if used else Values())))


def _run(
    requested: Experiment,
    options: RunOptions,
    record: Record,
    before: Mapping[str, Any],
    peers: Peers,
    copies: Copies,
    used: Used,
) -> None:
    started = time.monotonic()
    finished = before.get("state") == "done"
    if finished and not (options.test or options.baselines):
        raise InputError(f"{record.folder}: the run is done. Add --test to test it, or start a new one.")
    resolved = told(requested.resolve)
    if options.resume:
        refuse_replaced(requested, resolved, before)
        copies.fetch("*.json", "tokenizer/*", LAST)
        peers.agree()
    last = copies.folder / LAST
    goes_on = options.resume is not None and not finished and told(last.exists)
    step = told(lambda: check(last)) if goes_on else 0 if options.resume and not finished else None
    earlier = told(lambda: records.load(options.same_data_as) if options.same_data_as else before)
    known = earlier.get("precision") if resolved.precision == "auto" else None
    precision = known or agreed_precision(resolved)
    with open_loggers(resolved, record, step) as loggers:
        callbacks = build_callbacks(resolved, record, options)
        datamodule = make_datamodule(resolved, options.fold)
        own = isinstance(datamodule, DataModule)
        build = functools.partial(build_trainer, logger=loggers, distributed_sampler=not own, folder=record.folder)
        trainer = build(resolved, callbacks, precision=precision)
        if goes_on:
            refuse_processes(resolved, trainer.world_size, before)
        main = is_rank_zero()
        used.begin_on(trainer.strategy.root_device)
        if main and not options.resume:
            record.update(**records.head(requested, resolved))
        unsized, resumed = resolved, copies.folder if options.resume else None
        reproduces = options.same_data_as is not None and options.child is None
        recorded = reproduces or ("data" in before and "sized" not in before)
        resolved = set_up(unsized, datamodule, resumed, devices=trainer.world_size, recorded=recorded)
        if goes_on:
            refuse_changed(resolved, before)
        if resolved != unsized:
            callbacks = build_callbacks(resolved, record, options)
            trainer = build(resolved, callbacks, precision=precision)
        task = build_task(resolved, datamodule)
        described = describe(resolved, datamodule, task, trainer)
        refuse_parts(options, datamodule, task)
        if main:
            refuse_data(options, datamodule, described, earlier, record.folder)
        peers.agree(same=must_be_the_same(requested, described) if meeting() else None)
        speeds: dict[str, float] = {}
        if known is None and isinstance(task, Task) and isinstance(datamodule, DataModule):
            speeds = told(functools.partial(measured_speeds, resolved, task, datamodule, trainer))
        if speeds:
            trainer = build(resolved, callbacks, precision=faster(speeds))
            described["precision"] = str(trainer.precision)
        if main:
            began: dict[str, Any] = {} if finished else {"fields": resolved.to_json()}
            began |= changes(unsized, resolved, datamodule)
            if measured := speeds or (earlier.get("precision_speeds", {}) if known else {}):
                began["precision_speeds"] = measured
            record.update(**described, **began)
            if isinstance(datamodule, DataModule):
                datamodule.save(record.folder)
                write_json(record.folder / "split.json", {split: datamodule.ids(split) for split in datamodule.sizes()})
            summary.before(record, record.folder)
            connect(loggers, record)
        reason, data = "", datamodule
        if not finished:
            if main:
                require_space(record.folder, task, averaged=resolved.averaging != "none")
                if step is not None:
                    cut(loggers, step)
            if isinstance(task, Task) and isinstance(datamodule, DataModule):
                features = prepare_features(task, datamodule, trainer, resumed=goes_on, test=options.test)
                data = features or datamodule
        peers.agree(ready=True)
        if not finished:
            reason = fit(resolved, trainer, task, data, last if goes_on else None)
        copies.fetch(BEST)
        everyones(None)  # by now each machine has it
        metrics, per_class = evaluate(trainer, task, datamodule, data, record, copies.folder / BEST, test=options.test)
        if main:
            if finished:  # what was measured before stays
                metrics = before.get("metrics", {}) | metrics
                per_class = before.get("per_class", {}) | per_class
            result: Values = {"metrics": metrics}
            if per_class:
                result["per_class"] = per_class
            if not finished:
                wall_s = round(before.get("wall_s", 0.0) + time.monotonic() - started, 1)
                result |= {"state": "done", "reason": reason, "wall_s": wall_s, **used.values(before)}
                result |= training_figures(record.folder, resolved)
                if reason.startswith("max_epochs"):
                    result |= improving(record.folder, resolved, record["data"]["sizes"].get("val", 0))
            if options.baselines:
                from src.training.baselines import fit_baselines

                assert isinstance(datamodule, DataModule)  # as `refuse_parts` has seen to
                result["baselines"] = fit_baselines(datamodule, ("val", "test") if "test/loss" in metrics else ("val",))
            record.update(**result)
            log_result(loggers, record)
            summary.after(record, record.folder)


def fit(
    experiment: Experiment, trainer: Trainer, task: LightningModule, datamodule: LightningDataModule, last: Path | None
) -> str:
    """Train, from checkpoint `last` if there is one; return why the training ended."""
    module = compiled(task) if experiment.compile else task
    # Whether features were cached or computed. What a data module of one's own draws in `setup` does not depend on the
    # seed; each epoch and step is seeded by itself.
    seed = experiment.seed if isinstance(datamodule, DataModule) else SPLIT_SEED
    lightning.seed_everything(seed, workers=True, verbose=False)
    if last and trainer.is_global_zero:
        console.line("resume", f"from {last}")
    try:
        trainer.fit(module, datamodule=datamodule, ckpt_path=last, weights_only=True)
    except RuntimeError as error:
        if not str(error).startswith("Early stopping conditioned on metric"):
            raise
        raise InputError(f"--patience {experiment.patience}: {error}. Set monitor to one of these.") from error
    return why_stopped(trainer, experiment)


def why_stopped(trainer: Trainer, experiment: Experiment) -> str:
    callbacks: list[Any] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    if reason := next((callback.reason for callback in callbacks if isinstance(callback, Pruning)), ""):
        return reason
    for callback in trainer.early_stopping_callbacks:
        if isinstance(callback, EarlyStopping) and callback.wait_count >= callback.patience:
            return f"no better {callback.monitor} for {callback.patience} validations"
        if isinstance(callback, EarlyStopping) and callback.stopping_reason_message:
            return callback.stopping_reason_message
    if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= trainer.current_epoch:
        return f"max_epochs {trainer.max_epochs} reached"
    if 0 <= trainer.max_steps <= trainer.global_step:
        return f"max_steps {trainer.max_steps} reached"
    timers = [callback for callback in callbacks if isinstance(callback, Timer)]
    if any((left := timer.time_remaining()) is not None and left <= 0 for timer in timers):
        return f"max_time {experiment.max_time} is over"
    return "stopped by a callback"
