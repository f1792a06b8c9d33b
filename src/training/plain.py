"""Modules and data modules as Lightning's documentation writes them: what can be known of them, and what cannot."""

from __future__ import annotations

import hashlib
from collections.abc import Sized
from dataclasses import dataclass
from typing import Any

import lightning
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils._pytree import tree_leaves

from src.configs.errors import InputError
from src.datamodules import DataModule
from src.tasks import Task

SPLIT_SEED = 0
"""Seeds what a data module of one's own draws in `setup`, so that runs of all seeds have the same splits."""
EXACTNESS = (
    "the data module is not one of Leyden's: a run goes on to the bit from the end of an epoch. Within one, its loader "
    "begins the epoch's order anew, so some examples are seen twice and others not. datamodules.Plain goes on exactly."
)
HOOKS = {"train": "train_dataloader", "val": "val_dataloader", "test": "test_dataloader"}


@dataclass(frozen=True)
class Looked:
    """What a look at a data module's loaders tells."""

    sizes: dict[str, int]
    """Split -> examples, or batches where a loader's data set has no length; without the splits that have neither."""
    fingerprint: str
    """Hash of the sizes and of the first batch of train and val."""
    batches: int
    """Batches of a training epoch in one process; 0 where a loader does not tell."""


def look_at(datamodule: LightningDataModule) -> Looked:
    """Set up a data module for fitting and look at its loaders, with the random state left as it was."""
    with isolate_rng():
        lightning.seed_everything(SPLIT_SEED, workers=True, verbose=False)
        datamodule.prepare_data()
        datamodule.setup("fit")
        loaders = {s: getattr(datamodule, hook)() for s, hook in HOOKS.items() if s != "test" and has(datamodule, hook)}
        sizes = {split: size for split, loader in loaders.items() if (size := size_of(loader))}
        digest = hashlib.sha256(repr(sizes).encode())
        for loader in loaders.values():
            for part in tree_leaves(next(iter(loader), ())):
                tensor = isinstance(part, Tensor)
                digest.update(part.cpu().contiguous().float().numpy().tobytes() if tensor else repr(part).encode())
        train = loaders.get("train")
        return Looked(sizes, digest.hexdigest()[:16], len(train) if isinstance(train, Sized) else 0)


def size_of(loader: Any) -> int:
    """Return the number of a loader's examples, else of its batches, else 0."""
    for sized in (getattr(loader, "dataset", None), loader):
        try:
            return len(sized)  # pyright: ignore[reportArgumentType]
        except TypeError:
            continue
    return 0


def has(part: LightningModule | LightningDataModule, hook: str) -> bool:
    """Return whether a module or data module defines a hook that Lightning leaves empty."""
    parent: type = LightningDataModule if isinstance(part, LightningDataModule) else LightningModule
    return is_overridden(hook, part, parent)


def validates(task: LightningModule, datamodule: LightningDataModule) -> bool:
    return has(task, "validation_step") and has(datamodule, "val_dataloader")


def require_parts(task: object, datamodule: object, name: str) -> None:
    """Raise an InputError where an experiment's parts are no Lightning modules, or cannot go together."""
    if not isinstance(datamodule, LightningDataModule):
        raise InputError(f"{name}.datamodule() returns a {type(datamodule).__name__}, not a LightningDataModule.")
    if not isinstance(task, LightningModule):
        raise InputError(
            f"{name}.task() returns a {type(task).__name__}, not a LightningModule. tasks.Task(network, "
            "self.objective(spec), tasks.inputs.PlainInput()) makes one of any network."
        )
    if isinstance(task, Task) and not isinstance(datamodule, DataModule):
        raise InputError(
            f"{name}: a Task takes batches of Leyden's data modules, and {type(datamodule).__name__} is none. Wrap its "
            "data sets: datamodules.Plain(train, val, test, classes=...)."
        )


def require_test(task: LightningModule, datamodule: LightningDataModule) -> None:
    """Raise an InputError where there is nothing to test."""
    if isinstance(datamodule, DataModule):
        datamodule.require_test()
    elif not has(datamodule, "test_dataloader"):
        raise InputError(f"--test: {type(datamodule).__name__} has no test_dataloader().")
    if not has(task, "test_step"):
        raise InputError(f"--test: {type(task).__name__} has no test_step().")
