"""What `run.py` does with its experiments: plan, run, cross-validate or average one after the other."""

from __future__ import annotations

import sys
import traceback
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from src.callbacks import Every, Interrupted
from src.callbacks.graceful_stop import handling, interrupt
from src.cli.parser import RunFlags
from src.configs.errors import InputError
from src.datamodules import DataModule, Fold
from src.experiment import Experiment
from src.runs import records, summary
from src.runs.launched import earlier_run
from src.studies.ablation.ablate import ablate
from src.studies.ablation.design import Ablation
from src.studies.cross_validation import cross_validate
from src.studies.ensemble import ensemble
from src.studies.reproduce import reproduce
from src.tasks import Task
from src.terminal import console
from src.training.build import build_task, make_datamodule, set_up
from src.training.evaluate import changes, describe
from src.training.failures import explain
from src.training.options import RunOptions
from src.training.precision import faster, measured_speeds
from src.training.ranks import Elsewhere, is_rank_zero, launched, meet, told
from src.training.runner import run
from src.training.trainer import build_trainer, quieten


def run_all(experiments: Sequence[Experiment], flags: RunFlags) -> int:
    """Run or plan each experiment; a failure is recorded and the rest go on.

    Returns:
        Exit code: 0 if all are done, 1 if one failed, 128 + signal if interrupted.
    """
    quieten()
    failed = 0
    done: dict[type[Experiment], list[Path]] = defaultdict(list)
    with handling(interrupt):
        for number, experiment in enumerate(experiments):
            if number:
                print(flush=True)
            try:
                if flags.dry_run:
                    before = records.load(flags.resume) if flags.resume else {}
                    refuse_search(before, flags)
                    folds = before.get("folds", flags.folds)
                    plan(experiment, Fold(1, folds) if folds else None)
                elif flags.reproduce:
                    failed += not reproduce(flags.reproduce, experiment, options_of(flags))
                else:
                    done[type(experiment)].append(train(experiment, flags))
            except Interrupted as stop:
                return stop.exit_code
            except Exception as error:
                failed += 1
                if isinstance(error, Elsewhere) and not is_rank_zero():
                    break  # the first process says it
                if not isinstance(error, InputError | OSError):
                    traceback.print_exception(error)
                print(f"error: {type(experiment).__name__}: {explain(error)}", file=sys.stderr, flush=True)
                if torch.distributed.is_available() and torch.distributed.is_initialized():
                    break  # the other processes may be elsewhere by now: no further run could agree with them
    for folders in done.values():
        if len(flags.seeds) > 1 and len(folders) > 1 and is_rank_zero():
            summary.after_seeds([records.load(folder) for folder in folders])
    if failed and len(experiments) > 1 and is_rank_zero():
        print(f"{failed} of {len(experiments)} runs failed", file=sys.stderr)
    return 1 if failed else 0


def train(experiment: Experiment, flags: RunFlags) -> Path:
    """Run, cross-validate or average an experiment, or go on with that; return the directory of the run.

    Raises:
        InputError: anything the user can put right.
        Interrupted: by a signal. The record says so.
    """
    meet(experiment)
    if not flags.resume and (earlier := told(lambda: begun(experiment))):
        folder, experiment, done = earlier
        if done:
            return folder
        flags = replace(flags, resume=folder)
    before = told(lambda: records.load(flags.resume) if flags.resume else {})
    refuse_search(before, flags)
    options = options_of(flags)
    if folds := before.get("folds", flags.folds):
        return cross_validate(experiment, folds, options)
    if members := before.get("ensemble", flags.ensemble):
        return ensemble(experiment, members, options)
    if "ablation" in before:
        return ablate(Ablation.of(experiment, before), options)
    return run(experiment, options)


def begun(experiment: Experiment) -> tuple[Path, Experiment, bool] | None:
    """Return the run that an earlier start by the same launcher has begun, its experiment, and whether it is done.

    Raises:
        InputError: Slurm's time was over before the run had trained, and would be so each time.
    """
    folder = earlier_run(type(experiment).__name__, experiment.seed, launched())
    if folder is None:
        return None
    record = records.load(folder)
    done = record["state"] == "done"
    if record["state"] == "interrupted" and record["reason"] == "SIGUSR1" and not trained(folder):
        raise InputError(
            f"{folder}: Slurm's time was over before the first step was saved, and would be again. Give the job more "
            "--time, or its processes fewer examples to prepare."
        )
    console.line("restart", f"{'leave' if done else 'go on with'} {folder}, which this launcher has begun")
    return folder, type(experiment).from_json(record["fields"]), done


def trained(folder: Path) -> bool:
    """Return whether a run, or a child of it, has a checkpoint to go on from."""
    return any(folder.rglob("last.ckpt"))


def refuse_search(before: Mapping[str, Any], flags: RunFlags) -> None:
    """Raise an InputError where the run to go on with is a search."""
    if "search" in before:
        raise InputError(f"--resume {flags.resume}: a search. Go on with it by search.py --resume {flags.resume}.")


def options_of(flags: RunFlags) -> RunOptions:
    return RunOptions(
        test=flags.test,
        baselines=flags.baselines,
        resume=flags.resume,
        checkpoint_every=Every.parse(flags.checkpoint_every),
    )


def plan(requested: Experiment, fold: Fold | None = None) -> None:
    """Print what a run, or a fold of it, would be; train nothing and write no run directory."""
    resolved = requested.resolve()
    datamodule = make_datamodule(resolved, fold)
    trainer = build_trainer(resolved, [], logger=False)
    head = records.head(requested, resolved)
    unsized, resolved = resolved, set_up(resolved, datamodule, devices=trainer.world_size)
    if resolved != unsized:
        trainer = build_trainer(resolved, [], logger=False)
    task = build_task(resolved, datamodule)
    speeds: dict[str, float] = {}
    if isinstance(task, Task) and isinstance(datamodule, DataModule):
        speeds = measured_speeds(resolved, task, datamodule, trainer)
    if speeds:
        trainer = build_trainer(resolved, [], logger=False, precision=faster(speeds))
    record = head | {"fields": resolved.to_json()} | describe(resolved, datamodule, task, trainer)
    record |= changes(unsized, resolved, datamodule)
    summary.before(record | {"precision_speeds": speeds}, None)
