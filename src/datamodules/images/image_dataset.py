"""Images as batches: cropped, turned and mirrored for training, their middle for evaluation and prediction."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from src.configs.errors import InputError
from src.configs.image import Augment
from src.datamodules.images.decoding import UNREADABLE, decode, why_unreadable
from src.resources.files import printable

TRIES = 10
"""Windows that are drawn for a random crop, of which the first that fits is taken."""
DRAWS = 2 + 2 * TRIES + 2
"""Random numbers an image: for the mirror, for the angle, for areas and shapes of windows, for the place."""
LARGE = 128
"""Side from which on scaling an image takes much longer than the interpreter's part of it, so that threads help."""
GREY = 127
"""What is erased becomes; the mean of ImageNet's images is near it."""


class ImageDataset(Dataset[dict[str, Tensor]]):
    """Batches of images: {'image': uint8 [batch, 3, image_size, image_size], 'target': [batch], 'index': [batch]}.

    Args:
        files: one an image.
        pixels: file of the decoded images [all, stored, stored, 3], or None to decode `files` each time.
        positions: row of each image in `pixels`.
        targets: class of each image.
        stored_size: side as decoded; evaluation takes the middle `image_size` of it.
        augment: random changes for training, drawn from (seed, key); None for evaluation.
    """

    def __init__(
        self,
        files: Sequence[Path],
        pixels: Path | None,
        positions: np.ndarray,
        targets: Tensor,
        *,
        stored_size: int,
        image_size: int,
        augment: Augment | None = None,
        seed: int = 0,
    ) -> None:
        self.files, self.cache_file, self.positions, self.targets = files, pixels, positions, targets
        self.stored_size, self.image_size, self.seed = stored_size, image_size, seed
        self.augment, self.changes = augment, changes(augment) if augment else None

    @functools.cached_property
    def pixels(self) -> np.ndarray | None:
        """The decoded images, memory-mapped; each process maps the file for itself."""
        if self.cache_file is None:
            return None
        return np.asarray(np.load(self.cache_file, mmap_mode="r", allow_pickle=False))  # np.memmap is slow to index

    def __getstate__(self) -> dict[str, Any]:
        """Send spawned workers the name of the file, not its contents."""
        return {name: value for name, value in self.__dict__.items() if name != "pixels"}

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, keys: list[int]) -> dict[str, Tensor]:
        index = [key % len(self.files) for key in keys]
        windows, mirrored, angles = self._drawn(keys)
        size = self.image_size
        pixels = np.empty((len(keys), size, size, 3), np.uint8)
        cv2.setNumThreads(1)  # the threads are ours; a process forked from OpenCV's own would wait for them for ever

        def fill(rows: range) -> None:
            for row in rows:
                stored = self._stored(index[row])
                image = turned(stored, angles[row]) if angles else stored
                top, left, bottom, right = windows[row]
                cv2.resize(image[top:bottom, left:right], (size, size), dst=pixels[row])
                if mirrored[row]:
                    cv2.flip(pixels[row], 1, dst=pixels[row])

        count = torch.get_num_threads() if self.pixels is None or size >= LARGE else 1  # in a worker process 1
        if count == 1:
            fill(range(len(keys)))
        else:
            list(threads(count).map(fill, [range(first, len(keys), count) for first in range(count)]))
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)  # stays channels-last in memory
        if self.changes:
            images = torch.stack([self._changed(image, key) for image, key in zip(images, keys, strict=True)])
        where = torch.tensor(index)
        return {"image": images, "target": self.targets[where], "index": where}

    def _drawn(self, keys: Sequence[int]) -> tuple[list[list[int]], list[bool], list[float]]:
        """Return the window of each image, whether to mirror it, and by how many degrees to turn it, if any is."""
        edge = (self.stored_size - self.image_size) // 2
        whole = np.tile([edge, edge, edge + self.image_size, edge + self.image_size], (len(keys), 1))
        if self.augment is None:
            return whole.tolist(), [False] * len(keys), []
        drawn = np.stack([np.random.Generator(np.random.Philox(key=[self.seed, key])).random(DRAWS) for key in keys])
        cropped = self.augment.crop != (1.0, 1.0)
        windows = random_windows(drawn[:, 2:], self.stored_size, self.augment.crop) if cropped else whole
        mirrored = self.augment.flip & (drawn[:, 0] < 0.5)
        angles = (2 * drawn[:, 1] - 1) * self.augment.rotation
        return windows.tolist(), mirrored.tolist(), angles.tolist() if self.augment.rotation else []

    def _stored(self, i: int) -> np.ndarray:
        if self.pixels is not None:
            return self.pixels[self.positions[i]]
        file = self.files[i]
        try:
            return decode(file, self.stored_size)
        except UNREADABLE as error:
            raise InputError(
                f"{printable(file)}: readable when the run began, and now not ({why_unreadable(error)}). "
                "Put it back and resume the run, or start a new one."
            ) from error

    def _changed(self, image: Tensor, key: int) -> Tensor:
        assert self.changes
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(
                int(np.random.SeedSequence([self.seed, key]).generate_state(1, np.uint64)[0] >> 1)
            )
            return self.changes(image)


def random_windows(drawn: np.ndarray, size: int, area: tuple[float, float]) -> np.ndarray:
    """Return windows [batch, (top, left, bottom, right)] of images of `size`, as of torchvision's RandomResizedCrop.

    Their share of the area is between the two of `area`, width to height between 4/5 and 5/4 (log-uniform), their place
    anywhere; the whole image where none of `TRIES` fits.

    Args:
        drawn: numbers from 0 to 1 [batch, 2 * `TRIES` + 2].
    """
    share, shape, place = np.split(drawn, [TRIES, 2 * TRIES], axis=1)
    share, stretch = area[0] + (area[1] - area[0]) * share, np.sqrt(5 / 4) ** (2 * shape - 1)
    sides = np.round(size * np.sqrt(share)[..., None] * np.stack([1 / stretch, stretch], -1)).clip(1)
    fits = (sides <= size).all(-1)
    first = sides[np.arange(len(drawn)), fits.argmax(1)]
    sides = np.where(fits.any(-1, keepdims=True), first, size)
    corner = np.floor(place * (size - sides + 1))
    return np.concatenate([corner, corner + sides], 1).astype(int)


def turned(image: np.ndarray, angle: float) -> np.ndarray:
    """Return an image, uint8 [height, width, 3], turned by so many degrees; the corners that come in are black."""
    channels_first = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return v2.functional.rotate(channels_first, angle, v2.InterpolationMode.BILINEAR).permute(1, 2, 0).numpy()


@functools.cache
def threads(count: int) -> ThreadPoolExecutor:
    """Return as many threads, to be used again and again."""
    return ThreadPoolExecutor(count)


if hasattr(os, "register_at_fork"):  # a forked process has none of them, and would wait for them for ever
    os.register_at_fork(after_in_child=threads.cache_clear)


def changes(augment: Augment) -> v2.Transform | None:
    """Return what `augment` does to a uint8 image [3, size, size] once it is turned, cropped and mirrored, if any."""
    steps: list[v2.Transform] = []
    if augment.colour:
        steps.append(v2.ColorJitter(augment.colour, augment.colour, augment.colour))
    if augment.randaugment[0]:
        steps.append(v2.RandAugment(*augment.randaugment))
    if augment.erasing:
        steps.append(v2.RandomErasing(augment.erasing, value=GREY))
    return v2.Compose(steps) if steps else None
