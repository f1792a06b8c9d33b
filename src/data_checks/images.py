"""Images: the same or nearly the same in two splits, and sizes out of the ordinary."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.fft import dctn
from torch.nn import functional as F
from torchvision.transforms.v2.functional import rgb_to_grayscale

from src.data_checks.findings import Examples, Finding, Pair
from src.data_checks.numbers import outliers
from src.datamodules import DataModule, ImageFiles
from src.datamodules.capabilities import ShowsExamples
from src.datamodules.images.decoding import UNREADABLE

SIDE = 32
MOST_BITS = 12
"""Of the 64 bits of two hashes, so many may differ: what is alike is then looked at pixel by pixel."""
ALIKE = 0.97
"""Correlation of the grey pixels from which on two images are nearly the same."""
FLAT = 2.0
"""Grey levels of deviation below which an image has nothing in it to compare; it has to be equal then."""
ENLARGED = 0.5
"""Share of the model's image below which a file has too few pixels."""
CHUNK = 256


def thumbnails(datamodule: DataModule, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the images of a split, small: in grey, float32 [images, side, side], and as they are, in uint8.

    What has neither one channel nor three is taken for grey, its first channel.
    """
    assert isinstance(datamodule, ShowsExamples)
    size, grey, coloured = len(datamodule.ids(split)), [], []
    for start in range(0, size, CHUNK):
        images = datamodule.examples(split, range(start, min(start + CHUNK, size)))
        assert isinstance(images, torch.Tensor)
        for all_images, found in zip((grey, coloured), small(images), strict=True):
            all_images.append(found)
    return np.concatenate(grey), np.concatenate(coloured)


def small(images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return images, uint8 [images, channels, height, width], as `thumbnails` does."""
    pixels = F.adaptive_avg_pool2d(images.float(), SIDE)
    pixels = pixels if pixels.shape[1] == 3 else pixels[:, :1]
    grey = rgb_to_grayscale(pixels) if pixels.shape[1] == 3 else pixels
    return grey[:, 0].numpy(), pixels.round().to(torch.uint8).numpy()


def hashes(images: np.ndarray) -> np.ndarray:
    """Return a perceptual hash of each image, uint64: which of its lowest frequencies are above their median.

    As `imagehash.phash` after Zauner 2010 (https://www.phash.org/docs/pubs/thesis_zauner.pdf, section 3.2.1).
    """
    low = np.asarray(dctn(images, axes=(1, 2)))[:, :8, :8].reshape(-1, 64)
    return np.packbits(low > np.median(low, 1, keepdims=True), axis=1).view(np.uint64).ravel()


def repeated(examples: Examples, images: np.ndarray, *, exact: bool) -> Iterator[Pair]:
    """Yield the images of val and test that an earlier split has too, resized, saved anew or mirrored included.

    Args:
        images: of all splits, as `thumbnails` gives them.
        exact: only images that are equal. Digits of a few pixels are alike by nature.
    """
    vectors = images.reshape(len(images), -1)
    deviation = vectors.std(1)
    turned = {"": images} if exact else {"": images, "mirrored": images[:, :, ::-1]}
    hashed = {how: hashes(found) for how, found in turned.items()}
    for late in range(1, len(examples.splits)):
        before, rows = np.flatnonzero(examples.split < late), np.flatnonzero(examples.split == late)
        for how, codes in hashed.items():
            other = turned[how].reshape(len(images), -1)
            for chunk in np.array_split(rows, -(-len(rows) // CHUNK)):
                bits = np.bitwise_count(codes[chunk, None] ^ hashed[""][before])
                for row, column in zip(*np.nonzero(bits <= (0 if exact else MOST_BITS)), strict=True):
                    mine, theirs = int(chunk[row]), int(before[column])
                    if found := _alike(other[mine], vectors[theirs], deviation[mine], deviation[theirs], exact):
                        yield Pair(theirs, mine, how or found)


def _alike(a: np.ndarray, b: np.ndarray, deviation_a: float, deviation_b: float, exact: bool) -> str:
    """Return how two images, as vectors of grey pixels, are alike; '' if they are not."""
    if np.array_equal(a, b):
        return "the same"
    if exact or min(deviation_a, deviation_b) < FLAT:
        return ""
    correlation = float(((a - a.mean()) * (b - b.mean())).mean() / (deviation_a * deviation_b))
    return "nearly the same" if correlation >= ALIKE else ""


def odd_sizes(datamodule: ImageFiles, examples: Examples) -> list[Finding]:
    """Return the images whose files are of a size out of the ordinary; headers are read, no pixels."""
    files = [file for split in examples.splits for file in datamodule.files(split)]
    with ThreadPoolExecutor() as pool:
        width, height, size = np.array(list(pool.map(_measure, files)), float).T
    smaller = np.minimum(width, height)
    names = [f"{examples.name(i)}" for i in range(len(examples))]
    shown = [f"{name} ({w:.0f} x {h:.0f})" for name, w, h in zip(names, width, height, strict=True)]
    weights = [f"{name} ({kb / 1024:.0f} KB)" for name, kb in zip(names, size, strict=True)]
    enlarged = np.flatnonzero(smaller < ENLARGED * datamodule.image_size)
    found = outliers(width / height, shown, "unusually wide or tall images; only their middle square is seen")
    found += outliers(size / (width * height), weights, "files unusually large or small for their pixels")
    if len(enlarged):
        worst = [shown[i] for i in enlarged[smaller[enlarged].argsort(kind="stable")]]
        side = f"a side below {ENLARGED:.0%} of the {datamodule.image_size} pixels that the model sees"
        title = f"images that are blown up, having {side}: {len(worst)} of {len(files)}"
        found.append(Finding(title, examples=tuple(worst)))
    return found


def _measure(file: Path) -> tuple[int, int, int]:
    """Return width, height and bytes; 1s where the file went away meanwhile."""
    try:
        with Image.open(file) as image:
            return *image.size, file.stat().st_size
    except UNREADABLE:
        return 1, 1, 1
