"""What all data modules of image files share: decoded once, quarantined by name, served in batches, predicted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import Dataset

from src.configs.errors import InputError
from src.configs.image import Augment
from src.configs.spec import DataSpec
from src.configs.table import Csv
from src.datamodules.base import DataModule, fingerprint
from src.datamodules.images.chosen import Chosen
from src.datamodules.images.decoded import Decoded, decode_all
from src.datamodules.images.image_dataset import ImageDataset
from src.datamodules.images.listing import Listing
from src.datamodules.images.preparation import ImagePreparation
from src.datamodules.preparation import PredictionInput
from src.datamodules.sources import LoadedSplits
from src.resources.files import printable


class ImageFiles(DataModule):
    """Base of the data modules of image files, decoded once into a memory-mapped cache. A subclass lists its sources.

    Args:
        data_dir: the user's own images.
        source: 'auto', or one of `sources`.
        image_size: side of the images that the model sees.
        augment: random changes of training images.
        cache: decode once and keep; otherwise each time (slow, for comparison).
        unreadable_limit: greatest share of files that may be missing or fail to open before the run stops.
    """

    path_column: str = "path"
    """Of a table that names images to predict."""
    csv: Csv = Csv()
    """How its cells are written, where that is not to be found out."""

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

    # ----------------------------------------------------------------------------------------- examples of the sources
    def labels(self, samples: Chosen) -> list[str] | np.ndarray | None:
        return samples.labels

    def names_of(self, samples: Chosen, found: LoadedSplits[Chosen]) -> list[str]:
        rows = np.concatenate([part.rows for part in found.samples.values()])
        names = samples.files.names
        return self.ids_of([names[row] for row in samples.rows], names[rows.min()], names[rows.max()])

    def ids_of(self, names: Sequence[str], first: str, last: str) -> list[str]:
        """Return the ids of files, by their names; `first` and `last` are those of all files of the splits."""
        return list(map(printable, names))

    def subset(self, samples: Chosen, positions: Sequence[int] | np.ndarray) -> Chosen:
        return samples.subset(positions)

    # ----------------------------------------------------------------------------------------------------------- setup
    def setup(self, stage: str) -> None:
        if stage == "predict" or hasattr(self, "loaded"):
            return
        found = self.find()
        train = found.samples["train"]
        # In one order, with what is left out: all folds and lists share the decoded images.
        everything = np.sort(np.concatenate([part.rows for part in (*found.samples.values(), *self.left_out)]))
        self._files = Listing(train.files.root, [train.files.names[row] for row in everything])
        self._names = self.ids_of(self._files.names, self._files.names[0], self._files.names[-1])
        self._decoded = decode_all(self._files, self.stored_size, keep=self.cache)
        readable = np.ones(len(everything), bool)
        readable[list(self._decoded.unreadable)] = False
        places = {split: np.searchsorted(everything, part.rows) for split, part in found.samples.items()}
        self._rows = {split: rows[readable[rows]] for split, rows in places.items()}
        stays = np.ones(len(everything), bool)
        for part in self.left_out:
            stays[np.searchsorted(everything, part.rows)] = False
        left = {split: train.of(everything[rows]) for split, rows in self._rows.items()}
        self._check(found, left, stays)
        targets = train.targets
        rows = {split: part.rows for split, part in left.items()}
        classes, target = targets.fit(rows, found.source, scale="standard")
        used = np.concatenate(list(self._rows.values()))
        encoded = targets.encode(everything[used], classes)
        self._targets = torch.zeros(len(everything), *encoded.shape[1:], dtype=encoded.dtype)
        self._targets[used] = encoded
        cells = [f" {targets.values[row]}" for row in everything] if targets.name else [""] * len(everything)
        self.fingerprint = fingerprint(
            f"{self._names[row]} {self._decoded.digests[row].decode()}{cells[row]}" for row in np.flatnonzero(stays)
        )
        self.spec = DataSpec(
            classes=classes,
            class_counts=self.train_counts(len(classes)),
            input_shape=(3, self.image_size, self.image_size),
            target=target,
        )
        self.loaded = found

    def _check(self, found: LoadedSplits[Chosen], left: Mapping[str, Chosen], stays: np.ndarray) -> None:
        """Refuse too many unreadable files and what has no image left; note the few, and what is in two splits."""
        broken = {i: why for i, why in self._decoded.unreadable.items() if stays[i]}
        count = np.count_nonzero(stays)
        names = [f"{printable(self._files[i])} ({why})" for i, why in sorted(broken.items())]
        if len(broken) > self.unreadable_limit * count:
            shown = "".join(f"\n  {name}" for name in names[:10])
            raise InputError(
                f"{found.source}: {len(broken)} of {count} files do not open as images, more than the "
                f"{self.unreadable_limit:.0%} that a run leaves out. Repair or remove them:{shown}"
            )
        if broken:
            self.notes.append(f"{len(broken)} of {count} files do not open and are left out: {', '.join(names[:5])}")
        there = {split: part.classes_there() for split, part in left.items()}
        for split, part in left.items():
            if gone := found.samples[split].classes_there() - there[split]:
                raise InputError(f"{found.source}: no readable image of class {min(gone)} in {split}.")
            if not len(part):
                raise InputError(f"{found.source}: no readable image in {split}.")
        if self.left_out and (gone := set().union(*there.values()) - there["train"]):
            raise InputError(f"--quarantine {self.quarantine}: nothing is left of class {min(gone)} in train.")
        if repeated := repeated_across_splits(self._rows, self._decoded):
            first = ", ".join(self._names[i] for i in repeated[0][:3])
            self.notes.append(f"{len(repeated)} images are in more than one split, which flatters the score: {first}")

    # --------------------------------------------------------------------------------------------------- what is there
    def dataset(self, split: str, *, train: bool) -> Dataset[dict[str, Any]]:
        rows = self._rows[split]
        return ImageDataset(
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
        """Return the file of each image of a split, by position."""
        return Listing(self._files.root, [self._files.names[row] for row in self._rows[split]])

    def targets(self, split: str) -> torch.Tensor:
        return self._targets[self._rows[split]]

    def examples(self, split: str, positions: Sequence[int]) -> torch.Tensor:
        return self.dataset(split, train=False)[list(positions)]["image"]

    def baseline_inputs(self, split: str) -> np.ndarray:
        """Return the images, grey and of 16 pixels a side, float32 [examples, 256]."""
        images, grey_images, count = self.dataset(split, train=False), [], len(self._rows[split])
        for some in np.array_split(np.arange(count), -(-count // 64)):
            grey = images[some.tolist()]["image"].float().mean(1, keepdim=True)
            grey_images.append(F.adaptive_avg_pool2d(grey, 16).flatten(1).numpy())
        return np.concatenate(grey_images)

    # ------------------------------------------------------------------------------------------------------ prediction
    def raw_inputs(self, split: str, positions: Sequence[int]) -> list[PredictionInput]:
        files = self.files(split)
        return [files[position] for position in positions]

    def preparation(self, spec: DataSpec) -> ImagePreparation:
        return ImagePreparation(
            stored_size=self.stored_size,
            image_size=spec.input_shape[-1],
            path_column=self.path_column,
            csv=self.csv,
            target=spec.target.name,
            classes=spec.classes,
        )


def repeated_across_splits(rows: Mapping[str, np.ndarray], decoded: Decoded) -> list[list[int]]:
    """Return groups of files with equal bytes that are in more than one split."""
    found = np.concatenate([*rows.values()])
    split = np.repeat(np.arange(len(rows)), [len(part) for part in rows.values()])
    digests = decoded.digests[found]
    each, counts = np.unique(digests, return_counts=True)
    groups: dict[bytes, list[int]] = defaultdict(list)
    for position in np.flatnonzero(np.isin(digests, each[counts > 1])).tolist():
        groups[digests[position]].append(position)
    return [found[group].tolist() for group in groups.values() if len(np.unique(split[group])) > 1]
