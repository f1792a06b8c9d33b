"""Small grey images of ten classes, in memory: handwritten digits (MNIST) or clothes (Fashion-MNIST)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset
from torchvision.datasets import MNIST, FashionMNIST
from typing_extensions import override

from src.configs.errors import InputError
from src.configs.spec import DataSpec
from src.configs.table import Csv
from src.datamodules.base import DataModule, fingerprint
from src.datamodules.images.idx_files import Sheet, read_sheet
from src.datamodules.images.preparation import ImagePreparation
from src.datamodules.preparation import PredictionInput
from src.datamodules.sources import LoadedSplits, own_data
from src.datamodules.split_names import SPLITS
from src.datamodules.splits import SPLIT_SEED, TEST_SHARE, VAL_SHARE, divide
from src.datamodules.tensors import Slices
from src.resources.cache import cache_dir
from src.resources.network import download_once, reachable

Name = Literal["mnist", "fashion-mnist"]
CLASSES: Mapping[Name, tuple[str, ...]] = {
    "mnist": tuple("0123456789"),
    "fashion-mnist": tuple(FashionMNIST.classes),
}
DOWNLOADS: Mapping[Name, tuple[type[MNIST], str]] = {
    "mnist": (MNIST, "12 MB"),
    "fashion-mnist": (FashionMNIST, "31 MB"),
}
"""torchvision's downloader, and the size of its four files."""
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where the Debian package dataset-fashion-mnist has its files."""
VAL_OF_TRAIN = 1 / 6
"""Share of the official training split that is held out: 10 000 of 60 000."""


class Digits(DataModule):
    """MNIST (LeCun et al. 1998), Fashion-MNIST (Xiao et al. 2017, arXiv 1708.07747), or what stands in for them.

    Sources in order: 'file' (a folder with the four idx files, plain or .gz), 'download', 'debian' (Fashion-MNIST from
    the package dataset-fashion-mnist), 'sklearn' (1 797 digits of 8x8 pixels, https://doi.org/10.24432/C50P49).

    Args:
        data_dir: the folder; None takes `data/<dataset>` if that is there, else the next source.
        source: 'auto' or one of the sources.
        dataset: what is wanted.
        image_size: side of the images that the model sees.
        shift: move training images by up to so many pixels each way, with zeros coming in.
        flip: mirror every second training image left to right.

    Official test splits stay test splits. An image to be predicted becomes grey; the ink should be the bright part.
    """

    in_memory = True

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        source: str = "auto",
        dataset: Name = "mnist",
        image_size: int = 28,
        batch_size: int = 128,
        num_workers: int | None = None,
        seed: int = 0,
        shift: int = 0,
        flip: bool = False,
    ) -> None:
        super().__init__(source=source, batch_size=batch_size, num_workers=num_workers, seed=seed)
        if image_size < 1:
            raise InputError(f"--image-size {image_size}: at least 1.")
        if not 0 <= shift < image_size:
            raise InputError(f"--shift {shift}: from 0 to below the images' {image_size} pixels.")
        self.wanted: Name = dataset
        self.data_dir, self.image_size, self.shift, self.flip = data_dir, image_size, shift, flip

    def sources(self) -> dict[str, Callable[[], LoadedSplits[Sheet] | None]]:
        return {
            "file": self.from_file,
            "download": self.from_download,
            "debian": self.from_debian,
            "sklearn": self.from_sklearn,
        }

    def from_file(self) -> LoadedSplits[Sheet] | None:
        """Return the user's folder; None where none was named and `data/<dataset>` is not there."""
        root = own_data(self.data_dir, self.wanted)
        return None if root is None else self.official(root, f"folder {root}", self.wanted)

    def from_download(self) -> LoadedSplits[Sheet] | None:
        """Return the data set as torchvision downloads it; kept in the cache."""
        kind, size = DOWNLOADS[self.wanted]
        folder = cache_dir() / self.wanted
        if not folder.exists() and not reachable(kind.mirrors[0]):
            return None
        download_once(
            folder,
            kind.__name__,
            lambda to: Path(kind(to, download=True).raw_folder),
            detail=f", {size},",
            source="download",
            instead=f"put its files into data/{self.wanted}, or take --source sklearn",
        )
        return self.official(folder, f"{kind.__name__} (torchvision)", self.wanted)

    def from_debian(self) -> LoadedSplits[Sheet] | None:
        """Return Debian's Fashion-MNIST; None where the package is not installed."""
        if not DEBIAN.is_dir():
            return None
        return self.official(DEBIAN, "Fashion-MNIST (Debian's dataset-fashion-mnist)", "fashion-mnist")

    def from_sklearn(self) -> LoadedSplits[Sheet]:
        """Return scikit-learn's digits, which stand in for either data set."""
        digits: Any = load_digits()
        images = torch.from_numpy((digits.images * (255 / 16)).round().astype(np.uint8))
        ids = [f"sklearn-{row:05d}" for row in range(len(images))]
        whole = Sheet(images, torch.from_numpy(digits.target).long(), ids, CLASSES["mnist"])
        rows = divide(whole.labels(), {"val": VAL_SHARE, "test": TEST_SHARE}, "--source sklearn")
        how = f"by class, val {VAL_SHARE:.0%}, test {TEST_SHARE:.0%}, seed {SPLIT_SEED}"
        samples = {split: whole.subset(rows[split]) for split in SPLITS}
        return LoadedSplits(f"scikit-learn's 8x8 digits (NOT {self.wanted})", how, samples, fallback=True, whole=whole)

    def official(self, folder: Path, source: str, name: Name) -> LoadedSplits[Sheet]:
        """Return the data set `name` from a folder of idx files, validation held out of train."""
        train, test = (read_sheet(folder, prefix, CLASSES[name]) for prefix in ("train", "t10k"))
        rows = divide(train.labels(), {"val": VAL_OF_TRAIN}, str(folder))
        samples = {"train": train.subset(rows["train"]), "val": train.subset(rows["val"]), "test": test}
        how = f"official test, val {len(rows['val'])} of train by class, seed {SPLIT_SEED}"
        fallback = name != self.wanted
        return LoadedSplits(f"{source} (NOT {self.wanted})" if fallback else source, how, samples, fallback=fallback)

    def labels(self, samples: Sheet) -> list[str]:
        return samples.labels()

    def names_of(self, samples: Sheet, found: LoadedSplits[Sheet]) -> list[str]:
        return samples.ids

    def subset(self, samples: Sheet, positions: Sequence[int] | np.ndarray) -> Sheet:
        return samples.subset(positions)

    def setup(self, stage: str) -> None:
        if stage == "predict" or hasattr(self, "loaded"):
            return
        found: LoadedSplits[Sheet] = self.find()
        self.columns = {
            split: {"image": resized(sheet.images, self.image_size), "target": sheet.targets}
            for split, sheet in found.samples.items()
        }
        digests = {split: digests_of(sheet) for split, sheet in found.samples.items()}
        if repeated := repeated_across_splits(found.samples, digests):
            self.notes.append(
                f"{len(repeated)} images of val and test are in an earlier split too, which flatters the score: "
                + ", ".join(repeated[:3])
            )
        self.fingerprint = fingerprint(
            f"{name} {target} {digest}"
            for split, sheet in found.samples.items()
            for name, target, digest in zip(sheet.ids, sheet.targets.tolist(), digests[split], strict=True)
        )
        classes = found.samples["train"].classes
        self.spec = DataSpec(
            classes=classes,
            class_counts=self.train_counts(len(classes)),
            input_shape=(1, self.image_size, self.image_size),
        )
        self.loaded = found

    def dataset(self, split: str, *, train: bool) -> Dataset[dict[str, Any]]:
        if train and (self.shift or self.flip):
            return Moved(self.columns[split], shift=self.shift, flip=self.flip, seed=self.seed)
        return Slices(self.columns[split])

    def ids(self, split: str) -> Sequence[str]:
        return self.loaded.samples[split].ids

    def targets(self, split: str) -> Tensor:
        return self.columns[split]["target"]

    def examples(self, split: str, positions: Sequence[int]) -> Tensor:
        return self.columns[split]["image"][list(positions)]

    def baseline_inputs(self, split: str) -> np.ndarray:
        return self.columns[split]["image"].flatten(1).numpy()

    def raw_inputs(self, split: str, positions: Sequence[int]) -> list[PredictionInput]:
        images = self.loaded.samples[split].images.numpy()
        return [images[position] for position in positions]

    def preparation(self, spec: DataSpec) -> ImagePreparation:
        size = spec.input_shape[-1]
        return ImagePreparation(
            stored_size=size, image_size=size, grey=True, csv=Csv(), target=spec.target.name, classes=spec.classes
        )


class Moved(Slices):
    """As `Slices`, but each 'image' is shifted by up to `shift` pixels each way and, with `flip`, maybe mirrored.

    What happens to an example derives from (seed, epoch, example), whatever batch it is in and whoever draws it.
    """

    def __init__(self, columns: Mapping[str, Tensor], *, shift: int, flip: bool, seed: int) -> None:
        super().__init__(columns)
        self.shift, self.flip, self.seed = shift, flip, seed
        self._drawn: tuple[int, np.ndarray] = (-1, np.empty(0))

    @override
    def __getitem__(self, keys: list[int]) -> dict[str, Tensor]:
        batch = super().__getitem__(keys)
        epochs, rows = np.divmod(keys, self.size)
        moves = np.empty((len(keys), 3), np.int64)
        for epoch in np.unique(epochs).tolist():
            moves[epochs == epoch] = self._epoch(epoch)[rows[epochs == epoch]]
        down, right, mirror = torch.from_numpy(moves).unbind(1)
        images = batch["image"]
        if self.shift:
            windows = F.pad(images, [self.shift] * 4).unfold(2, images.shape[2], 1).unfold(3, images.shape[3], 1)
            images = windows[torch.arange(len(images)), :, down, right]
        if self.flip:
            images = torch.where(mirror.bool()[:, None, None, None], images.flip(3), images)
        return batch | {"image": images}

    def _epoch(self, epoch: int) -> np.ndarray:
        """Return the move of each example in an epoch, [examples, 3]: down, right (from -shift), whether mirrored.

        All are drawn at once, in a stream of their own (1: that of the order is [seed, epoch]).
        """
        if self._drawn[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch, 1])
            self._drawn = (epoch, rng.integers(0, (2 * self.shift + 1, 2 * self.shift + 1, 2), (self.size, 3)))
        return self._drawn[1]


def resized(images: Tensor, size: int) -> Tensor:
    """Return uint8 [n, height, width] as [n, 1, size, size], by Pillow as `decode` does for prediction."""
    if images.shape[1:] != (size, size):
        fitted = (
            ImageOps.fit(Image.fromarray(image), (size, size), Image.Resampling.BICUBIC) for image in images.numpy()
        )
        images = torch.from_numpy(np.stack([np.asarray(image) for image in fitted]))
    return images[:, None]


def digests_of(sheet: Sheet) -> list[str]:
    return [hashlib.sha256(image.tobytes()).hexdigest()[:16] for image in sheet.images.numpy()]


def repeated_across_splits(samples: Mapping[str, Sheet], digests: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the ids of images that stand, pixel for pixel, in an earlier split too."""
    seen: set[str] = set()
    repeated: list[str] = []
    for split in samples:
        repeated += [name for name, digest in zip(samples[split].ids, digests[split], strict=True) if digest in seen]
        seen.update(digests[split])
    return repeated
