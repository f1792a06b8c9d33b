"""Any folder of pictures: root/{train,val,test}/{class}/ or root/{class}/, however many classes."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from src.configs.errors import InputError
from src.configs.image import Augment
from src.configs.spec import DataSpec
from src.datamodules.base import DataModule, fingerprint
from src.datamodules.capabilities import PredictionInput
from src.datamodules.images.class_folders import Chosen, scan
from src.datamodules.images.decoded import Decoded, decode_all
from src.datamodules.images.given import given_images
from src.datamodules.images.image_dataset import Files, Pictures
from src.datamodules.images.listing import Listing
from src.datamodules.sampling.batches import Batches
from src.datamodules.sources import LoadedSplits, own_data
from src.datamodules.synthetic import images
from src.resources.files import printable


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

    def sources(self) -> dict[str, Callable[[], LoadedSplits[Chosen] | None]]:
        return {"folder": self.from_folder, "drawn": self.from_drawn}

    def from_folder(self) -> LoadedSplits[Chosen] | None:
        """Return the user's folder; None where none was named and `data/<folder_name>` is not there."""
        root = own_data(self.data_dir, self.folder_name)
        if root is None:
            return None
        samples, split = scan(root)
        ours = ("train", "val") if split.startswith("as given, but") else tuple(samples)  # what we have divided
        whole = None
        if split != "as given":
            whole = samples["train"].of(np.sort(np.concatenate([samples[name].rows for name in ours])))
        return LoadedSplits(f"folder {printable(root)}", split, samples, whole=whole)

    def from_drawn(self) -> LoadedSplits[Chosen] | None:
        """Return cats and dogs drawn on the spot, a stand-in for photographs."""
        root = images.cache_folder("cats_dogs")
        images.draw_folder(root)
        return LoadedSplits("drawn cats and dogs (NOT photographs)", "as drawn", scan(root)[0], fallback=True)

    def labels(self, samples: Chosen) -> list[str]:
        return samples.labels

    def names_of(self, samples: Chosen, found: LoadedSplits[Chosen]) -> list[str]:
        rows = np.concatenate([part.rows for part in found.samples.values()])
        names = samples.files.names
        return _ids((names[row] for row in samples.rows), names[rows.min()], names[rows.max()])

    def subset(self, samples: Chosen, positions: Sequence[int] | np.ndarray) -> Chosen:
        return samples.subset(positions)

    def setup(self, stage: str) -> None:
        if stage == "predict" or hasattr(self, "loaded"):
            return
        found = self.find()
        train = found.samples["train"]
        # In one order, with what is left out: all folds and lists share the decoded pictures.
        everything = np.sort(np.concatenate([part.rows for part in (*found.samples.values(), *self.left_out)]))
        self._files = Listing(train.files.root, [train.files.names[row] for row in everything])
        self._names = _ids(self._files.names, self._files.names[0], self._files.names[-1])
        self._decoded = decode_all(self._files, self.stored_size, keep=self.cache)
        classes = sorted(train.classes_there())
        if gone := {name for part in found.samples.values() for name in part.classes_there()} - {*classes}:
            raise InputError(f"--quarantine {self.quarantine}: nothing is left of class {min(gone)} in train.")
        number = {name: target for target, name in enumerate(classes)}
        number_of = np.array([number.get(name, -1) for name in train.classes])
        self._targets = torch.from_numpy(number_of[train.targets[everything]])
        readable = np.ones(len(everything), bool)
        readable[list(self._decoded.unreadable)] = False
        places = {split: np.searchsorted(everything, part.rows) for split, part in found.samples.items()}
        self._rows = {split: rows[readable[rows]] for split, rows in places.items()}
        stays = np.ones(len(everything), bool)
        for part in self.left_out:
            stays[np.searchsorted(everything, part.rows)] = False
        self._check(found, classes, stays)
        self.fingerprint = fingerprint(
            f"{self._names[row]} {self._decoded.digests[row].decode()}" for row in np.flatnonzero(stays)
        )
        self.spec = DataSpec(
            classes=tuple(classes),
            class_counts=self.train_counts(len(classes)),
            input_shape=(3, self.image_size, self.image_size),
        )
        self.loaded = found

    def _check(self, found: LoadedSplits[Chosen], classes: Sequence[str], stays: np.ndarray) -> None:
        """Refuse too many unreadable files and empty classes; note the few, and pictures that stand in two splits."""
        broken = {i: why for i, why in self._decoded.unreadable.items() if stays[i]}
        count = np.count_nonzero(stays)
        names = [f"{printable(self._files[i])} ({why})" for i, why in sorted(broken.items())]
        if len(broken) > self.unreadable_limit * count:
            shown = "".join(f"\n  {name}" for name in names[:10])
            raise InputError(
                f"{found.source}: {len(broken)} of {count} files do not open as pictures, more than the "
                f"{self.unreadable_limit:.0%} that a run leaves out. Repair or remove them:{shown}"
            )
        if broken:
            self.notes.append(f"{len(broken)} of {count} files do not open and are left out: {', '.join(names[:5])}")
        for split in self._rows:
            there = set(self.targets(split).unique().tolist())
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
        return [self._names[row] for row in self._rows[split]]

    def files(self, split: str) -> Listing:
        """Return the file of each picture of a split, by position."""
        return Listing(self._files.root, [self._files.names[row] for row in self._rows[split]])

    def targets(self, split: str) -> torch.Tensor:
        return self._targets[self._rows[split]]

    def examples(self, split: str, positions: Sequence[int]) -> torch.Tensor:
        return self.dataset(split, train=False)[list(positions)]["image"]

    def baseline_inputs(self, split: str) -> np.ndarray:
        """Return the pictures, grey and of 16 pixels a side, float32 [examples, 256]."""
        pictures, found, count = self.dataset(split, train=False), [], len(self._rows[split])
        for some in np.array_split(np.arange(count), -(-count // 64)):
            grey = pictures[some.tolist()]["image"].float().mean(1, keepdim=True)
            found.append(F.adaptive_avg_pool2d(grey, 16).flatten(1).numpy())
        return np.concatenate(found)

    def prepare_prediction(self, inputs: Sequence[PredictionInput], spec: DataSpec) -> Sequence[str]:
        images, ids = given_images(inputs)
        self._inputs = Files(images, stored_size=self.stored_size, image_size=spec.input_shape[-1])
        return ids

    def predict_dataloader(self) -> DataLoader[Any]:
        return self.load(self._inputs, Batches(len(self._inputs), self.batch_size, train=False))


def repeated_across_splits(rows: Mapping[str, np.ndarray], decoded: Decoded) -> list[list[int]]:
    """Return groups of files with equal bytes that stand in more than one split."""
    found = np.concatenate([*rows.values()])
    split = np.repeat(np.arange(len(rows)), [len(part) for part in rows.values()])
    digests = decoded.digests[found]
    each, counts = np.unique(digests, return_counts=True)
    groups: dict[bytes, list[int]] = defaultdict(list)
    for position in np.flatnonzero(np.isin(digests, each[counts > 1])).tolist():
        groups[digests[position]].append(position)
    return [found[group].tolist() for group in groups.values() if len(np.unique(split[group])) > 1]


def _ids(names: Iterable[str], first: str, last: str) -> list[str]:
    """Return names below the folder that all have in common: that of the first and the last in order of their paths."""
    folder = os.path.commonpath([first, last])
    above = len(printable(folder)) + 1 if folder else 0
    return [printable(name)[above:] for name in names]
