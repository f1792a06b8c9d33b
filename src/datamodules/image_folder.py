"""Any folder of pictures: root/{train,val,test}/{class}/ or root/{class}/, however many classes."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from src import records
from src.datamodules import drawn
from src.datamodules.base import SPLITS, DataModule, Found, fingerprint
from src.datamodules.batches import Batches
from src.datamodules.listing import files_below, files_of
from src.datamodules.pictures import Decoded, Files, Pictures, decode_all
from src.datamodules.splits import SPLIT_NAMES, SPLIT_SEED, TEST_SHARE, VAL_SHARE, divide
from src.experiment import Augment, DataSpec, InputError

Sample = tuple[Path, str]
"""A picture's file and class."""


class ImageFolder(DataModule):
    """Pictures in class folders, decoded once into a memory-mapped cache.

    Args:
        data_dir: the folder; None takes `data/<folder_name>` if that is there, else the next source.
        source: 'auto', 'folder' or 'drawn'.
        image_size: side of the pictures that the model sees.
        augment: random changes of training pictures.
        cache: decode once and keep; otherwise each time (slow, for comparison).
        unreadable_limit: greatest share of files that may fail to open before the run stops.

    Without split folders the split is made by class with a fixed seed; without a validation split it is taken from
    train.
    """

    folder_name: ClassVar[str] = "images"
    """Folder below `data/` that is looked for without --data-dir."""

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        source: str = "auto",
        image_size: int = 224,
        batch_size: int = 32,
        num_workers: int | None = None,
        seed: int = 0,
        augment: Augment | None = None,
        cache: bool = True,
        unreadable_limit: float = 0.05,
    ) -> None:
        super().__init__(source=source, batch_size=batch_size, num_workers=num_workers, seed=seed)
        if image_size < 1:
            raise InputError(f"--image-size {image_size}: at least 1.")
        self.data_dir, self.image_size, self.augment, self.cache = data_dir, image_size, augment or Augment(), cache
        self.unreadable_limit = unreadable_limit
        self.stored_size = round(image_size * 8 / 7)  # the usual 256 for 224

    def sources(self) -> dict[str, Callable[[], Found[list[Sample]] | None]]:
        return {"folder": self.from_folder, "drawn": self.from_drawn}

    def from_folder(self) -> Found[list[Sample]] | None:
        """Return the user's folder; None where none was named and `data/<folder_name>` is not there."""
        root = self.data_dir or Path("data") / self.folder_name
        if self.data_dir is None and not root.is_dir():
            return None
        samples, split = scan(root)
        ours = ("train", "val") if split.startswith("as given, but") else tuple(samples)  # what we have divided
        whole = None if split == "as given" else sorted(chain(*(samples[name] for name in ours)))
        return Found(f"folder {records.printable(root)}", split, samples, whole=whole)

    def from_drawn(self) -> Found[list[Sample]] | None:
        """Return cats and dogs drawn on the spot, a stand-in for photographs."""
        root = drawn.cache_folder("cats_dogs")
        drawn.draw_folder(root)
        return Found("drawn cats and dogs (NOT photographs)", "as drawn", scan(root)[0], stand_in=True)

    def labels(self, samples: list[Sample]) -> list[str]:
        return [name for _, name in samples]

    def names_of(self, samples: list[Sample], found: Found[list[Sample]]) -> list[str]:
        return _names([path for path, _ in samples], [path for path, _ in chain(*found.samples.values())])

    def setup(self, stage: str) -> None:
        if stage == "predict" or hasattr(self, "found"):
            return
        found = self.find()
        left_out = {path for path, _ in chain(*self.left_out)}
        # In one order, with what is left out: all folds and lists share the decoded pictures.
        everything = sorted(chain(*found.samples.values(), *self.left_out))
        files = [path for path, _ in everything]
        self._decoded = decode_all(files, self.stored_size, keep=self.cache)
        classes = sorted({name for _, name in found.samples["train"]})
        if gone := {name for items in found.samples.values() for _, name in items} - {*classes}:
            raise InputError(f"--quarantine {self.quarantine}: nothing is left of class {min(gone)} in train.")
        row_of = {path: row for row, path in enumerate(files) if row not in self._decoded.unreadable}
        self._rows: dict[str, np.ndarray] = {
            split: np.array([row_of[path] for path, _ in items if path in row_of], dtype=np.int64)
            for split, items in found.samples.items()
        }
        self._files = files
        number = {name: target for target, name in enumerate(classes)}
        self._targets = torch.tensor([number.get(name, -1) for _, name in everything])
        self._names = _names(files, files)
        self._check(found, classes, left_out)
        self.fingerprint = fingerprint(
            f"{name} {digest}"
            for path, name, digest in zip(files, self._names, self._decoded.digests, strict=True)
            if path not in left_out
        )
        self.spec = DataSpec(
            classes=tuple(classes),
            class_counts=self.train_counts(len(classes)),
            input_shape=(3, self.image_size, self.image_size),
        )
        self.found = found

    def _check(self, found: Found[list[Sample]], classes: Sequence[str], left_out: set[Path]) -> None:
        """Refuse too many unreadable files and empty classes; note the few, and pictures that stand in two splits."""
        broken = {i: why for i, why in self._decoded.unreadable.items() if self._files[i] not in left_out}
        count = len(self._files) - len(left_out)
        names = [f"{records.printable(self._files[i])} ({why})" for i, why in sorted(broken.items())]
        if len(broken) > self.unreadable_limit * count:
            shown = "".join(f"\n  {name}" for name in names[:10])
            raise InputError(
                f"{found.source}: {len(broken)} of {count} files do not open as pictures, more than the "
                f"{self.unreadable_limit:.0%} that a run leaves out. Repair or remove them:{shown}"
            )
        if broken:
            self.notes.append(f"{len(broken)} of {count} files do not open and are left out: {', '.join(names[:5])}")
        for split, rows in self._rows.items():
            there = set(self._targets[rows].tolist())
            if missing := [name for target, name in enumerate(classes) if target not in there]:
                raise InputError(f"{found.source}: no readable picture of class {missing[0]} in {split}.")
        if repeated := repeated_across_splits(self._rows, self._decoded):
            first = ", ".join(self._names[i] for i in repeated[0][:3])
            self.notes.append(
                f"{len(repeated)} pictures stand in more than one split, which flatters the score: {first}"
            )

    def dataset(self, split: str, *, train: bool) -> Dataset[dict[str, Any]]:
        rows = self._rows[split]
        return Pictures(
            self.files(split),
            self._decoded.pixels,
            rows,
            self.targets(split),
            stored_size=self.stored_size,
            image_size=self.image_size,
            augment=self.augment if train else None,
            seed=self.seed,
        )

    def ids(self, split: str) -> Sequence[str]:
        return [self._names[row] for row in self._rows[split].tolist()]

    def files(self, split: str) -> list[Path]:
        """Return the file of each picture of a split, by position."""
        return [self._files[row] for row in self._rows[split]]

    def targets(self, split: str) -> torch.Tensor:
        return self._targets[self._rows[split]]

    def examples(self, split: str, positions: Sequence[int]) -> torch.Tensor:
        return self.dataset(split, train=False)[list(positions)]["image"]

    def baseline_inputs(self, split: str) -> np.ndarray:
        """Return the pictures, grey and of 16 pixels a side, float32 [examples, 256]."""
        pictures, found = self.dataset(split, train=False), []
        for some in np.array_split(np.arange(len(self.ids(split))), -(-len(self.ids(split)) // 64)):
            grey = pictures[some.tolist()]["image"].float().mean(1, keepdim=True)
            found.append(F.adaptive_avg_pool2d(grey, 16).flatten(1).numpy())
        return np.concatenate(found)

    def prepare_prediction(self, inputs: Sequence[Path], spec: DataSpec) -> Sequence[str]:
        files = files_of(inputs)
        self._inputs = Files(files, stored_size=self.stored_size, image_size=spec.input_shape[-1])
        return [records.printable(file) for file in files]

    def predict_dataloader(self) -> DataLoader[Any]:
        return self.load(self._inputs, Batches(len(self._inputs), self.batch_size, train=False))


def scan(root: Path) -> tuple[dict[str, list[Sample]], str]:
    """Return the pictures of each split of a folder, and how the split was made. Hidden files are passed over.

    Raises:
        InputError: no such folder, nothing in it, one class, or classes that differ between splits.
    """
    if not root.is_dir():
        raise InputError(f"--data-dir {root}: no such folder.")
    folders = [path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    given = {SPLIT_NAMES[path.name.lower()]: path for path in folders if path.name.lower() in SPLIT_NAMES}
    if "train" in given:
        splits = {split: _class_folder(given[split]) for split in SPLITS if split in given}
        how = "as given"
        if "val" not in splits:
            parts = divide_samples(splits["train"], {"val": VAL_SHARE}, root)
            splits |= {"train": parts["train"], "val": parts["val"]}
            how = f"as given, but val {VAL_SHARE:.0%} of train by class, seed {SPLIT_SEED}"
    else:
        splits = divide_samples(_class_folder(root), {"val": VAL_SHARE, "test": TEST_SHARE}, root)
        how = f"by class, val {VAL_SHARE:.0%}, test {TEST_SHARE:.0%}, seed {SPLIT_SEED}"
    classes = {split: {name for _, name in items} for split, items in splits.items()}
    if len(classes["train"]) < 2:
        there = ", ".join(sorted(classes["train"])) or "none"
        raise InputError(
            f"--data-dir {root}: a classifier needs at least two class folders with files; found: {there}. "
            "Expected <folder>/<class>/<picture> or <folder>/{train,val,test}/<class>/<picture>."
        )
    for split, found in classes.items():
        if found != classes["train"]:
            odd = ", ".join(sorted(found ^ classes["train"]))
            raise InputError(
                f"--data-dir {root}: {split} and train differ in classes: {odd}. Each split needs every class."
            )
    return splits, how


def _class_folder(root: Path) -> list[Sample]:
    """Return (file, class) of every file below root/{class}, in sorted order."""
    return [
        (file, records.printable(folder.name))
        for folder in sorted(root.iterdir())
        if folder.is_dir() and not folder.name.startswith(".")
        for file in files_below(folder)
    ]


def divide_samples(samples: Sequence[Sample], shares: Mapping[str, float], root: Path) -> dict[str, list[Sample]]:
    """Divide pictures by class, as `divide` does."""
    parts = divide([name for _, name in samples], shares, f"--data-dir {root}")
    return {split: [samples[i] for i in positions] for split, positions in parts.items()}


def repeated_across_splits(rows: Mapping[str, np.ndarray], decoded: Decoded) -> list[list[int]]:
    """Return groups of files with equal bytes that stand in more than one split."""
    split_of = {row: split for split, found in rows.items() for row in found.tolist()}
    counts = Counter(decoded.digests[row] for row in split_of)
    groups: dict[str, list[int]] = defaultdict(list)
    for row in split_of:
        if counts[decoded.digests[row]] > 1:
            groups[decoded.digests[row]].append(row)
    return [group for group in groups.values() if len({split_of[row] for row in group}) > 1]


def _names(files: Sequence[Path], among: Sequence[Path]) -> list[str]:
    """Return the path of each file below the folder that `among` have in common."""
    root = os.path.commonpath({file.parent for file in among}).rstrip(os.sep)  # of "/" nothing is left
    above = len(records.printable(root)) + 1
    return [records.printable(file)[above:] for file in files]
