"""What every data module offers the runner, and how its loaders are made."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from src.configs.errors import InputError
from src.configs.spec import DataSpec
from src.datamodules import quarantine
from src.datamodules.sampling.balanced import Balanced
from src.datamodules.sampling.batches import Batches
from src.datamodules.splits import SPLIT_SEED, assign_folds

Samples = TypeVar("Samples", bound=Sized)
SPLITS = ("train", "val", "test")
VAL_PARTS = 7
"""Of what a fold leaves for training, one part in so many is for validation."""


@dataclass(frozen=True)
class LoadedSplits(Generic[Samples]):
    """What a source served: the examples of each split and how they were split."""

    source: str
    """For the log and the record: 'folder /data/x', 'drawn'."""
    split: str
    """How the splits were made: 'as given', 'stratified 70/15/15, seed 0'."""
    samples: Mapping[str, Samples]
    """Split -> examples; 'test' may be missing."""
    fallback: bool = False
    """Whether this only stands in for real data, so that no number from it is taken for one from the real thing."""
    whole: Samples | None = None
    """All examples, where they came without splits of their own."""


@dataclass(frozen=True)
class Fold:
    """One fold of a cross-validation."""

    number: int
    """From 1."""
    count: int


class DataModule(LightningDataModule):
    """Base of the data modules.

    A subclass lists its sources in `sources` and, in `setup`, fills `spec`, `found`, `fingerprint` and the data sets.
    `setup` may be called any number of times, and does nothing for the stage 'predict'. A data set takes a list of
    keys (see `Batches`) and returns a whole batch, a dict with at least 'target' and 'index', the example's position in
    its split.
    """

    spec: DataSpec
    loaded: LoadedSplits[Any]
    fingerprint: str
    """Hash of names and contents: two runs with the same one saw the same data."""
    preparation: str = ""
    """What was fitted to the training split to prepare examples: features kept of other preparations are not these."""
    data_dir: Path | None = None
    """Where the user's own data are: the first source."""
    fold: Fold | None = None
    """Set before `setup`, this makes the fold's share of the data the test split."""
    balanced: bool = False
    """Set before training, this makes every class equally likely in it; see `Balanced`."""
    position: tuple[int, int] = (0, 0)
    """Epoch, and batches of it that are done, at which the training begins: of a run that goes on."""
    quarantine: Path | None = None
    """Set before `setup`, this list of examples is left out of all splits and folds; see `quarantine.py`."""
    in_memory: ClassVar[bool] = False
    """Whether batches are cut from tensors, for which worker processes would be too much."""
    neighbours_alike: ClassVar[bool] = False
    """Whether neighbouring examples have more in common than others, so that folds must be blocks of them."""

    def __init__(
        self, *, source: str = "auto", batch_size: int = 32, num_workers: int | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        self.source, self.batch_size, self.num_workers, self.seed = source, batch_size, num_workers, seed
        self.notes: list[str] = []
        """What the user should know of the data: files left out, duplicates across splits."""
        self.expected: Sequence[str] = ()
        """Labels that came with the inputs of a prediction, '' where there is none."""
        self.left_out: list[Any] = []
        """What `quarantine` took out of each split."""

    def sources(self) -> dict[str, Callable[[], LoadedSplits[Any] | None]]:
        """Return the sources in their order; each returns None where it cannot be had on this machine."""
        raise NotImplementedError

    def find(self) -> LoadedSplits[Any]:
        """Return what the first available source serves, or the forced one.

        Raises:
            InputError: the forced source is unknown or cannot be had here, or none can.
        """
        sources = self.sources()
        if self.source != "auto" and self.source not in sources:
            raise InputError(f"--source {self.source}: unknown here. Choose from auto, {', '.join(sources)}.")
        names = list(sources) if self.source == "auto" else [self.source]
        if self.data_dir is not None:  # what the user names is never replaced by another source
            first = next(iter(sources))
            if first not in names:
                raise InputError(f"--data-dir {self.data_dir} and --source {self.source}: give one of the two.")
            names = [first]
        listed = None if self.quarantine is None else quarantine.read(self.quarantine)  # before data are made
        for name in names:
            if (found := sources[name]()) is not None:
                found = found if listed is None else self._without(found, listed)
                return found if self.fold is None else self._folded(found, self.fold)
        raise InputError(
            f"--source {self.source}: cannot be had here ({', '.join(names)}: no network, or no such folder)."
        )

    def _without(self, found: LoadedSplits[Any], listed: Sequence[quarantine.Entry]) -> LoadedSplits[Any]:
        """Return what was found without the examples of a list; how many that are is noted."""
        names = {split: self.names_of(samples, found) for split, samples in found.samples.items()}
        stays = quarantine.staying(listed, names, f"--quarantine {self.quarantine}", found.source)
        samples = {split: self.subset(found.samples[split], np.flatnonzero(stays[split])) for split in names}
        self.left_out = [self.subset(found.samples[split], np.flatnonzero(~stays[split])) for split in names]
        counts = {split: len(out) for split, out in zip(names, self.left_out, strict=True) if len(out)}
        shown = ", ".join(f"{split} {count}" for split, count in counts.items())
        self.notes.append(f"examples left out by {self.quarantine}: {shown or 'none, it is empty'}")
        whole = found.whole
        if whole is not None:
            # Rows of a test file of its own may have the same names as those of `whole`, which train and val are from.
            of_whole = SPLITS if len(whole) == sum(map(len, found.samples.values())) else ("train", "val")
            kept = {names[split][i] for split in of_whole if split in names for i in stays[split].nonzero()[0].tolist()}
            whole = self.subset(whole, [i for i, name in enumerate(self.names_of(whole, found)) if name in kept])
        return replace(found, samples=samples, whole=whole)

    def _folded(self, found: LoadedSplits[Any], fold: Fold) -> LoadedSplits[Any]:
        """Return the splits of a fold: its share of the examples is test; validation is taken from the rest.

        Splits that the data came with keep their part: a given validation split chooses in every fold, and a given test
        split is not looked at.
        """
        pool = found.samples["train"] if found.whole is None else found.whole
        parts = self._assign_folds(pool, fold.count, found.source)
        test = parts[fold.number - 1]
        rest = np.setdiff1d(np.arange(len(pool)), test)
        how = f"fold {fold.number} of {fold.count}"
        if found.whole is None and "val" in found.samples:
            samples = {"train": self.subset(pool, rest), "val": found.samples["val"], "test": self.subset(pool, test)}
            return replace(found, split=f"{how} of train; val as before", samples=samples)
        remaining = self.subset(pool, rest)
        groups = self.groups(remaining)
        count = VAL_PARTS if groups is None else max(2, min(VAL_PARTS, len(set(groups))))
        val = self._assign_folds(remaining, count, found.source)[0]
        train = np.setdiff1d(np.arange(len(remaining)), val)
        samples = {
            "train": self.subset(remaining, train),
            "val": self.subset(remaining, val),
            "test": self.subset(pool, test),
        }
        return replace(found, split=f"{how}, seed {SPLIT_SEED}; val 1/{count} of the rest", samples=samples)

    def _assign_folds(self, samples: Any, count: int, where: str) -> list[list[int]]:
        return assign_folds(
            len(samples),
            count,
            labels=self.labels(samples),
            groups=self.groups(samples),
            where=where,
            shuffle=not self.neighbours_alike,
        )

    def labels(self, samples: Any) -> Sequence[str] | np.ndarray | None:
        """Return the class of each of some examples of `LoadedSplits`, or 0s and 1s [examples, labels]; None for a
        number."""
        raise NotImplementedError

    def names_of(self, samples: Any, found: LoadedSplits[Any]) -> Sequence[str]:
        """Return the id of each of some examples of `found`, as `ids` gives it once all is set up."""
        raise InputError(f"--quarantine: {type(self).__name__} cannot leave out examples by their id.")

    def groups(self, samples: Any) -> Sequence[str] | None:
        """Return the group of each of some examples, which folds must not divide; None where there are no groups."""
        return None

    def subset(self, samples: Any, positions: Sequence[int] | np.ndarray) -> Any:
        """Return some examples of `LoadedSplits` by position."""
        return [samples[position] for position in positions]

    def dataset(self, split: str, *, train: bool) -> Dataset[dict[str, Any]]:
        """Return a split's data set, augmented if `train`."""
        raise NotImplementedError

    def ids(self, split: str) -> Sequence[str]:
        """Return the name of each example of a split, by position."""
        raise NotImplementedError

    def targets(self, split: str) -> torch.Tensor:
        """Return the targets of a split, by position."""
        raise NotImplementedError

    def examples(self, split: str, positions: Sequence[int]) -> torch.Tensor | list[str]:
        """Return what a person is shown of some examples: pictures, uint8 [n, channels, height, width], or texts."""
        raise NotImplementedError(f"{type(self).__name__} shows no examples")

    def save(self, run: Path) -> None:
        """Write to the run directory what prediction needs besides the spec; see `Experiment.for_inference`."""

    def restore(self, run: Path) -> None:
        """Read back what `save` wrote, for a prediction, or before the `setup` of a run that goes on."""

    def baseline_inputs(self, split: str) -> Any:
        """Return what scikit-learn's models see of a split: a DataFrame, pictures as rows of numbers, or texts."""
        raise InputError(f"--baselines: {type(self).__name__} offers scikit-learn nothing to fit.")

    def prepare_prediction(self, inputs: Sequence[Path], spec: DataSpec) -> Sequence[str]:
        """Get `predict_dataloader` ready for the inputs and return the id of each; the training data are not needed.

        A batch has 'index' for the inputs that can be read and 'error', {index: why}, for the others. `expected` is set
        where the inputs came with labels.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot predict on files")

    def sizes(self) -> dict[str, int]:
        """Return the number of examples of each split that there is."""
        return {split: len(self.targets(split)) for split in SPLITS if split in self.loaded.samples}

    def train_counts(self, num_classes: int) -> tuple[int, ...]:
        """Return the training examples of each class, or that have each label, for the spec; () for a number."""
        return tuple(count_classes(self.targets("train"), num_classes).tolist()) if num_classes else ()

    def class_counts(self) -> dict[str, dict[str, int]]:
        """Return split -> class or label -> examples that have it; {} for a number."""
        if self.spec.target.kind == "regression":
            return {}
        counts = {split: count_classes(self.targets(split), self.spec.num_classes) for split in self.sizes()}
        return {split: dict(zip(self.spec.classes, count.tolist(), strict=True)) for split, count in counts.items()}

    def batches(self, split: str, *, train: bool, rank: int = 0, world_size: int = 1) -> Batches:
        """Return which examples make up each batch of a split: shuffled if `train`, else complete."""
        if train and self.balanced:
            targets = self.targets(split).numpy()
            return Balanced(targets, self.batch_size, seed=self.seed, rank=rank, world_size=world_size)
        size = len(self.targets(split))
        return Batches(size, self.batch_size, train=train, seed=self.seed, rank=rank, world_size=world_size)

    def loader(self, split: str, *, train: bool = False) -> DataLoader[Any]:
        """Return the batches of a split: shuffled and augmented if `train`, else complete."""
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return self.load(
            self.dataset(split, train=train), self.batches(split, train=train, rank=rank, world_size=world)
        )

    def load(self, dataset: Dataset[dict[str, Any]], batches: Iterable[list[int]]) -> DataLoader[Any]:
        if self.trainer:
            on_gpu = self.trainer.strategy.root_device.type == "cuda"
        else:
            on_gpu = torch.cuda.is_available()
        workers = self.num_workers
        if workers is None:
            alone = self.in_memory or not on_gpu
            workers = 0 if alone else min(8, (os.cpu_count() or 1) // max(1, torch.cuda.device_count()))
        return DataLoader(
            dataset,
            sampler=batches,
            batch_size=None,
            collate_fn=_as_it_is,  # the default looks through every batch for what to convert
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=on_gpu,
            generator=torch.Generator().manual_seed(self.seed),  # of the workers' own seeds: leave the training's alone
        )

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch, a flat dict. Lightning's own looks for tensors at any depth, which takes as long as a step of a
        tiny model.
        """
        if device.type == "cpu":
            return batch
        return {
            name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
            for name, value in batch.items()
        }

    def train_dataloader(self) -> DataLoader[Any]:
        loader = self.loader("train", train=True)
        batches: Any = loader.sampler
        epoch, batches.done = self.position
        batches.set_epoch(epoch)  # Lightning does so too, but after the workers have begun
        self.position = (0, 0)
        return loader

    def val_dataloader(self) -> DataLoader[Any]:
        return self.loader("val")

    def require_test(self) -> None:
        """Raise an InputError where there is no test split."""
        if "test" not in self.loaded.samples:
            raise InputError(f"--test: {self.loaded.source} has no test split.")

    def test_dataloader(self) -> DataLoader[Any]:
        self.require_test()
        return self.loader("test")


def count_classes(targets: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Return how many examples have each class, or each label: int64 [num_classes].

    Args:
        targets: class numbers [examples], or 0s and 1s [examples, num_classes].
    """
    return targets.sum(0).long() if targets.ndim == 2 else torch.bincount(targets, minlength=num_classes)


def _as_it_is(batch: Any) -> Any:
    return batch


def fingerprint(items: Iterable[str]) -> str:
    """Return 16 hex digits that stand for the items, in any order."""
    digest = hashlib.sha256()
    for number, item in enumerate(sorted(items)):
        digest.update((f"\n{item}" if number else item).encode())
    return digest.hexdigest()[:16]
