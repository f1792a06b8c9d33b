"""Picture files as uint8 arrays: decoded once into a memory-mapped file, or anew each time."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from src import records
from src.experiment import Augment

UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning)
"""What Pillow raises for files that are no picture, cut short or damaged."""


def decode(data: Path | bytes, size: int) -> np.ndarray:
    """Decode a picture, turn it upright, and fit its middle square: uint8 [size, size, 3].

    The shorter side becomes `size`; JPEGs are scaled while decoded, and cropping and resizing are one pass.
    Every picture, for training, evaluation or prediction, goes through here.

    Raises:
        one of UNREADABLE.
    """
    with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as image:
        image.draft("RGB", (size, size))
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I;16"):  # Pillow would cut 16 bits off at 255, that is to white
            upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
        upright = upright.convert("RGB")
        return np.asarray(ImageOps.fit(upright, (size, size), Image.Resampling.BICUBIC))


def why_unreadable(error: BaseException) -> str:
    """Say in a few words what is wrong with a file; Pillow's own words name the buffer it was read into."""
    return "not a picture" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__


@dataclass(frozen=True)
class Decoded:
    """What one pass over picture files found."""

    pixels: Path | None
    """File of uint8 [files, size, size, 3], to be mapped; None where nothing is kept: files are decoded when needed."""
    digests: list[str]
    """Hash of each file's bytes; '' where it cannot be read."""
    unreadable: dict[int, str]
    """Position of each file that does not open -> why."""


def decode_all(files: Sequence[Path], size: int, *, keep: bool = True) -> Decoded:
    """Decode every file once and keep the result in the cache; later calls with unchanged files only map it.

    With `keep` false only what the pass found is kept: digests and unreadable files.

    Processes that ask for the same files at the same time wait for one another. The result appears whole or not at all.
    """
    stats = [(str(path.resolve()), *_stat(path)) for path in files]
    key = hashlib.sha256(json.dumps([2, size, keep, stats]).encode()).hexdigest()[:24]
    folder = records.cache_dir() / "pictures" / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        found = _open(folder)
        if found is None or len(found.digests) != len(files):
            shutil.rmtree(folder, ignore_errors=True)
            _fill(folder, files, size, keep)
            found = _open(folder)
    assert found is not None
    return found


def _stat(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:  # gone, or a broken link: the pass will say so
        return -1, -1
    return stat.st_size, stat.st_mtime_ns


def _open(folder: Path) -> Decoded | None:
    """Map a finished cache; None where there is none or it is damaged."""
    try:
        index = json.loads((folder / "index.json").read_text())
        pixels = folder / "pixels.npy" if index["kept"] else None
        if pixels:
            np.load(pixels, mmap_mode="r", allow_pickle=False)
        return Decoded(pixels, index["digests"], {int(i): why for i, why in index["unreadable"].items()})
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


def _fill(folder: Path, files: Sequence[Path], size: int, keep: bool) -> None:
    """Decode in threads (Pillow lets go of the interpreter) into a temporary sibling, then rename it to `folder`."""
    space = len(files) * size * size * 3
    kept = keep and space < shutil.disk_usage(folder.parent).free / 2
    print(
        f"decoding   {len(files)} pictures once{f', {space / 1e6:.0f} MB in {folder.parent}' if kept else ''}",
        flush=True,
    )
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        shape = (len(files), size, size, 3)
        pixels = np.lib.format.open_memmap(temporary / "pixels.npy", "w+", np.uint8, shape) if kept else None
        unreadable: dict[int, str] = {}

        def one(position: int) -> str:
            try:
                data = files[position].read_bytes()
                picture = decode(data, size)
            except UNREADABLE as error:
                unreadable[position] = why_unreadable(error)
                return ""
            if pixels is not None:
                pixels[position] = picture
            return hashlib.sha256(data).hexdigest()[:16]

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            digests = list(pool.map(one, range(len(files))))
        if pixels is not None:
            pixels.flush()
        index = {"kept": kept, "digests": digests, "unreadable": unreadable}
        records.write_json(temporary / "index.json", index)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class Pictures(Dataset[dict[str, Tensor]]):
    """Batches of pictures: {'image': uint8 [batch, 3, image_size, image_size], 'target': [batch], 'index': [batch]}.

    Args:
        files: one a picture.
        pixels: file of the decoded pictures [all, stored, stored, 3], or None to decode `files` each time.
        positions: row of each picture in `pixels`.
        targets: class of each picture.
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
        self.transform = transforms(augment, image_size) if augment else None

    @functools.cached_property
    def pixels(self) -> np.ndarray | None:
        """The decoded pictures, memory-mapped; each process maps the file for itself."""
        return np.load(self.cache_file, mmap_mode="r", allow_pickle=False) if self.cache_file else None

    def __getstate__(self) -> dict[str, Any]:
        """Send spawned workers the name of the file, not its contents."""
        return {name: value for name, value in self.__dict__.items() if name != "pixels"}

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, keys: list[int]) -> dict[str, Tensor]:
        index = np.asarray(keys) % len(self.files)
        images = torch.from_numpy(self._stored(index)).permute(0, 3, 1, 2)  # stays channels-last in memory
        if self.transform is None:
            images = middle(images, self.image_size)
        else:
            images = torch.stack([self._augmented(image, key) for image, key in zip(images, keys, strict=True)])
        where = torch.from_numpy(index)
        return {"image": images, "target": self.targets[where], "index": where}

    def _stored(self, index: np.ndarray) -> np.ndarray:
        if self.pixels is not None:
            return np.asarray(self.pixels[self.positions[index]])
        return np.stack([decode(self.files[i], self.stored_size) for i in index])

    def _augmented(self, image: Tensor, key: int) -> Tensor:
        assert self.transform is not None
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(
                int(np.random.SeedSequence([self.seed, key]).generate_state(1, np.uint64)[0] >> 1)
            )
            return self.transform(image)


class Files(Dataset[dict[str, object]]):
    """Pictures for prediction, decoded when asked for: as `Pictures` for evaluation, without 'target', and with
    'error' {index: why} for the files that do not open, which are left out of 'image' and 'index'."""

    def __init__(self, files: Sequence[Path], *, stored_size: int, image_size: int) -> None:
        self.files, self.stored_size, self.image_size = files, stored_size, image_size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, keys: list[int]) -> dict[str, object]:
        pictures, index, errors = [], [], {}
        for key in keys:
            try:
                pictures.append(decode(self.files[key], self.stored_size))
                index.append(key)
            except UNREADABLE as error:
                errors[key] = why_unreadable(error)
        shape = (0, self.stored_size, self.stored_size, 3)
        images = torch.from_numpy(np.stack(pictures) if pictures else np.empty(shape, np.uint8)).permute(0, 3, 1, 2)
        return {
            "image": middle(images, self.image_size),
            "index": torch.tensor(index, dtype=torch.long),
            "error": errors,
        }


def middle(images: Tensor, size: int) -> Tensor:
    """Return the middle square [batch, channels, size, size] of larger pictures."""
    top, left = (images.shape[-2] - size) // 2, (images.shape[-1] - size) // 2
    return images[..., top : top + size, left : left + size]


def transforms(augment: Augment, size: int) -> v2.Transform:
    """Return `augment` as torchvision transforms of a uint8 picture [3, stored, stored] to [3, size, size]."""
    steps: list[v2.Transform] = []
    if augment.rotation:
        steps.append(v2.RandomRotation([-augment.rotation, augment.rotation], v2.InterpolationMode.BILINEAR))
    if augment.crop == (1.0, 1.0):
        steps.append(v2.CenterCrop(size))
    else:
        steps.append(v2.RandomResizedCrop(size, scale=augment.crop, ratio=(4 / 5, 5 / 4), antialias=True))
    if augment.flip:
        steps.append(v2.RandomHorizontalFlip())
    if augment.colour:
        steps.append(v2.ColorJitter(augment.colour, augment.colour, augment.colour))
    return v2.Compose(steps)
