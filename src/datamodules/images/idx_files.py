"""Images and labels in MNIST's idx files (http://yann.lecun.com/exdb/mnist/), plain or gzipped."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets.mnist import read_image_file, read_label_file
from torchvision.datasets.utils import extract_archive

from src.configs.errors import InputError


@dataclass(frozen=True)
class Sheet:
    """Grey images as a source has them."""

    images: Tensor
    """uint8 [images, height, width]."""
    targets: Tensor
    """[images], positions among the classes."""
    ids: list[str]
    """Name of each: 'train-00012' is the row 12 of the file of training images."""
    classes: tuple[str, ...]
    """Names of all classes."""

    def __len__(self) -> int:
        return len(self.ids)

    def subset(self, positions: Sequence[int] | np.ndarray) -> Sheet:
        """Return some of the images."""
        rows = torch.as_tensor(positions, dtype=torch.long)
        return Sheet(self.images[rows], self.targets[rows], [self.ids[row] for row in rows.tolist()], self.classes)

    def labels(self) -> list[str]:
        """Return the name of each image's class."""
        return [self.classes[target] for target in self.targets.tolist()]


def read_sheet(folder: Path, prefix: str, classes: tuple[str, ...]) -> Sheet:
    """Read `<prefix>-images-idx3-ubyte` and `<prefix>-labels-idx1-ubyte` of a folder, plain or .gz.

    Raises:
        InputError: a file is missing or damaged, or the two do not go together.
    """
    images, where = read_idx(folder / f"{prefix}-images-idx3-ubyte", read_image_file)
    targets, labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte", read_label_file)
    if len(images) != len(targets):
        raise InputError(f"{labels}: {len(targets)} labels for the {len(images)} images in {where.name}.")
    if targets.max() >= len(classes):
        raise InputError(f"{labels}: label {targets.max()}, but labels go from 0 to {len(classes) - 1}.")
    return Sheet(images, targets, [f"{prefix}-{row:05d}" for row in range(len(images))], classes)


def read_idx(path: Path, read: Callable[[str], Tensor]) -> tuple[Tensor, Path]:
    """Read an idx file, or the one with .gz behind its name, with torchvision's reader; return which one it was."""
    packed = path.with_name(f"{path.name}.gz")
    there = next((file for file in (path, packed) if file.is_file()), None)
    if there is None:
        raise InputError(
            f"{path}: no such file, nor {packed.name}. All four are needed: "
            "{train,t10k}-{images-idx3,labels-idx1}-ubyte, plain or .gz."
        )
    try:
        if there == path:
            return read(str(path)), path
        with tempfile.TemporaryDirectory(prefix="leyden-idx-") as temporary:
            return read(str(extract_archive(str(packed), temporary))), packed
    except Exception as error:  # gzip, zlib, torch and torchvision's assertions have a dozen kinds
        why = str(error) or type(error).__name__
        raise InputError(f"{there}: not a whole idx file ({why}). Put an undamaged one in its place.") from error
