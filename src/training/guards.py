"""What is refused before or instead of training."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule

from src.configs.errors import InputError
from src.datamodules import DataModule
from src.datamodules.capabilities import FitsBaselines, require
from src.experiment import Experiment
from src.resources.weights_files import load_weights
from src.tasks import Task
from src.training.options import RunOptions
from src.training.plain import require_test

FIXED = ("batch_size", "accumulate", "averaging", "monitor", "mode")
"""Fields without which a checkpoint would mean something else: its position and schedule count steps."""


def refuse_changed(resolved: Experiment, before: Mapping[str, Any]) -> None:
    """Raise an InputError where a run cannot go on from its checkpoint with the fields that are asked for.

    Args:
        resolved: how it is to go on, sized.
        before: the record of the run, which has trained.
    """
    found, kept = resolved.to_json(), before["fields"]
    for name in FIXED:
        if name in kept and found[name] != kept[name]:
            raise InputError(
                f"--{name.replace('_', '-')} {found[name]}: the run was begun with {kept[name]}, and its checkpoint "
                "means nothing without that. Leave the flag out, or start a new run."
            )


def refuse_processes(resolved: Experiment, processes: int, before: Mapping[str, Any]) -> None:
    """Raise an InputError where a run that has trained would go on in another number of processes."""
    began = int(before["device"].rpartition(" x ")[2])
    if processes != began:
        raise InputError(
            f"--devices {resolved.devices}: the run was begun on {began}, here it would be on {processes}, and its "
            f"checkpoint counts batches of each. Give --devices {began}, or start a new run."
        )


def refuse_replaced(requested: Experiment, resolved: Experiment, before: Mapping[str, Any]) -> None:
    """Raise an InputError where what a run began with is not available now, and another would take its place."""
    wanted, found, kept = requested.to_json(), resolved.to_json(), before["fields"]
    for name in found:
        if found[name] != wanted[name] and name in kept and kept[name] != found[name]:
            raise InputError(
                f"--{name.replace('_', '-')} {kept[name]}: the run was begun with it, and it is not available now. "
                "Bring it back to go on; predict.py needs nothing but the run."
            )


def refuse_parts(options: RunOptions, datamodule: LightningDataModule, task: LightningModule) -> None:
    """Raise an InputError where an option asks for more than the run's parts can do."""
    if options.test:
        require_test(task, datamodule)
    if options.baselines:
        require(datamodule, FitsBaselines, "--baselines", "offers scikit-learn nothing to fit. Leave the flag out.")
    for flag, wanted in (("--folds", options.fold), ("--ensemble", options.averaged)):
        if wanted and not isinstance(task, Task):
            raise InputError(f"{flag}: {type(task).__name__} is a module of your own, whose predictions are not known.")


def refuse_data(
    options: RunOptions,
    datamodule: LightningDataModule,
    described: Mapping[str, Any],
    earlier: Mapping[str, Any],
    folder: Path,
) -> None:
    """Raise an InputError where the data are not those of an earlier run.

    Args:
        options: of the run.
        datamodule: its data, set up.
        described: what the record says of the run before training.
        earlier: the record of the run that had to have the same data, if there is one.
        folder: the run directory.
    """
    if "data" in earlier and earlier["data"]["fingerprint"] != described["data"]["fingerprint"]:
        raise InputError(
            f"{options.same_data_as or folder}: the data has changed since the run began "
            f"({earlier['data']['source']}); start a new one."
        )
    if options.same_data_as and not options.fold and isinstance(datamodule, DataModule):
        require_same_examples(options.same_data_as, datamodule)


def require_same_examples(run: Path, datamodule: DataModule) -> None:
    """Raise an InputError where data are validated or tested on other examples than another run's."""
    try:
        kept = json.loads((run / "split.json").read_text(encoding="utf-8"))
        names = {split: {*map(str, kept[split])} for split in datamodule.sizes() if split != "train"}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{run / 'split.json'}: damaged ({type(error).__name__}: {error}).") from error
    for split, known in names.items():
        if strange := {*map(str, datamodule.ids(split))} - known:
            raise InputError(
                f"{run}: has no {split} example {min(strange)}, and this run has it. They need the same validation and "
                "test examples; leave out what draws them with the seed (--labelled)."
            )


def require_space(folder: Path, task: LightningModule, *, averaged: bool = False) -> None:
    """Raise an InputError where the disk cannot hold the run's checkpoints: best, last, and one being written."""
    weights = sum(value.numel() * value.element_size() for value in task.state_dict().values())
    trained = sum(p.numel() * p.element_size() for p in task.parameters() if p.requires_grad)
    need = 3 * ((1 + averaged) * weights + 2 * trained)  # Adam keeps two numbers a weight
    free = shutil.disk_usage(folder).free
    if free < need:
        raise InputError(
            f"{folder}: {free / 1e6:.0f} MB free, and the run's checkpoints take up to {need / 1e6:.0f} MB. Free "
            "some space, or set LEYDEN_RUNS to another folder."
        ) from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def check(checkpoint: Path) -> int:
    """Return the step of a checkpoint.

    Raises:
        InputError: it is damaged.
    """
    try:
        return load_weights(checkpoint, "meta")["global_step"]
    except Exception as error:  # torch raises a dozen kinds for damaged files
        raise InputError(
            f"{checkpoint}: damaged ({str(error).partition('.')[0]}). Copy best.ckpt over it, or start a new run."
        ) from error
