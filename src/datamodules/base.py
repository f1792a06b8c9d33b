"""What every data module offers the runner, and how its loaders are made."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from joblib import cpu_count
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from src.configs.errors import InputError
from src.configs.spec import DataSpec
from src.datamodules import quarantine
from src.datamodules.capabilities import PredictsFiles
from src.datamodules.folds import Fold, splits_of_fold
from src.datamodules.preparation import PredictionInput, Prepared
from src.datamodules.prepared_batches import PreparedBatches
from src.datamodules.sampling.balanced import Balanced
from src.datamodules.sampling.batches import Batches
from src.datamodules.sampling.like_length import LikeLength
from src.datamodules.sources import LoadedSplits, first_available
from src.datamodules.split_names import SPLITS

FLAT = (torch.Tensor, str, int, float)
"""Values of a batch in which there is nothing else to move."""
GRACE = 30
"""Seconds that the main process has to end a step, save and shut down its workers; as many as Slurm gives it."""


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
    fitted: str = ""
    """What was fitted to the training split to prepare examples; part of the key of cached features."""
    prepared: Prepared
    """The inputs of a prediction; see `prepare_prediction`."""
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
        self.left_out: list[Any] = []
        """What `quarantine` took out of each split."""

    def sources(self) -> dict[str, Callable[[], LoadedSplits[Any] | None]]:
        """Return the sources in their order; each returns None where it is not available on this machine."""
        raise NotImplementedError

    def find(self) -> LoadedSplits[Any]:
        """Return what the first available source serves, or the forced one, without what `quarantine` lists, as `fold`
        divides it.

        Raises:
            InputError: the forced source is unknown or not available here, or none is.
        """
        listed = None if self.quarantine is None else quarantine.read(self.quarantine)  # before data are made
        found = first_available(self.sources(), self.source, self.data_dir)
        if listed is not None:
            found, self.left_out, note = quarantine.leave_out(listed, f"{self.quarantine}", found, self)
            self.notes.append(note)
        return found if self.fold is None else splits_of_fold(found, self.fold, self)

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

    def save(self, run: Path) -> None:
        """Write to the run directory what prediction needs besides the spec; see `Experiment.for_inference`."""

    def restore(self, run: Path) -> None:
        """Read back what `save` wrote, for a prediction, or before the `setup` of a run that goes on."""

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
            workers = 0 if self.in_memory or not on_gpu else min(8, cores_of_gpu())
        return DataLoader(
            dataset,
            sampler=batches,
            batch_size=None,
            collate_fn=_as_it_is,  # the default looks through every batch for what to convert
            num_workers=workers,
            worker_init_fn=_ignore_signals,
            persistent_workers=workers > 0,
            pin_memory=on_gpu,
            generator=torch.Generator().manual_seed(self.seed),  # of the workers' own seeds: leave the training's alone
        )

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Return the batch on a device, whatever it is made of.

        Lightning's own way looks for tensors at any depth, which takes as long as a step of a tiny model. So a flat
        dict, as our data sets give, is moved here. Numbers to predict are in float64, which Apple's GPUs do not have:
        for these they stay on the CPU.
        """
        if device.type == "cpu":
            return batch
        if device.type == "mps" and isinstance(batch, dict) and _in_float64(batch.get("target")):
            rest = {name: value for name, value in batch.items() if name != "target"}
            return {**self.transfer_batch_to_device(rest, device, dataloader_idx), "target": batch["target"]}
        if not isinstance(batch, dict) or not all(isinstance(value, FLAT) for value in batch.values()):
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        at_once = device.type == "cuda"  # elsewhere the copy may be read before it is whole (pytorch#83015, on MPS)
        return {
            name: value.to(device, non_blocking=at_once) if isinstance(value, torch.Tensor) else value
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

    def prepare_prediction(self, inputs: Sequence[PredictionInput], spec: DataSpec) -> Sequence[str]:
        """Get `predict_dataloader` ready for inputs and return the id of each.

        A batch has 'index' for the inputs that can be read and 'error', {index: why}, for the others.

        Args:
            inputs: see `Preparation.read`.
            spec: of the run.

        Raises:
            InputError: the inputs cannot be used.
        """
        assert isinstance(self, PredictsFiles), "see `capabilities.require`"
        self.prepared = self.preparation(spec).read(inputs, self.notes)
        return self.prepared.ids

    def predict_dataloader(self) -> DataLoader[Any]:
        lengths, size = self.prepared.lengths, self.evaluated_batch_size
        alike = None if lengths is None else LikeLength(lengths, size, train=False)
        return self.load(PreparedBatches(self.prepared), alike or Batches(len(self.prepared), size, train=False))

    @property
    def evaluated_batch_size(self) -> int:
        """Examples a batch where nothing is trained."""
        return self.batch_size

    def require_test(self) -> None:
        """Raise an InputError where there is no test split."""
        if "test" not in self.loaded.samples:
            raise InputError(f"--test: {self.loaded.source} has no test split.")

    def test_dataloader(self) -> DataLoader[Any]:
        self.require_test()
        return self.loader("test")


def cores_of_gpu() -> int:
    """Return the cores that a process has for each GPU, of those that affinity and cgroup leave it.

    Slurm's tasks train on one GPU each, and have their cores to themselves.
    """
    return cpu_count() // (1 if SLURMEnvironment.detect() else max(1, torch.cuda.device_count()))


def count_classes(targets: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Return how many examples have each class, or each label: int64 [num_classes].

    Args:
        targets: class numbers [examples], or 0s and 1s [examples, num_classes].
    """
    return targets.sum(0).long() if targets.ndim == 2 else torch.bincount(targets, minlength=num_classes)


def _in_float64(target: Any) -> bool:
    return isinstance(target, torch.Tensor) and target.dtype == torch.float64


def _as_it_is(batch: Any) -> Any:
    return batch


def _ignore_signals(worker: int) -> None:
    """Have a worker outlive a signal that reaches all processes, as Ctrl-C and Slurm's do: the main one then stops.

    SIGTERM ends it `GRACE` seconds later, for multiprocessing waits for a worker that it has terminated.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":  # has neither signal nor alarm
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(GRACE))
        signal.signal(signal.SIGALRM, lambda number, frame: os._exit(0))


def fingerprint(items: Iterable[str]) -> str:
    """Return 16 hex digits that stand for the items, in any order."""
    digest = hashlib.sha256()
    for number, item in enumerate(sorted(items)):
        digest.update((f"\n{item}" if number else item).encode())
    return digest.hexdigest()[:16]
