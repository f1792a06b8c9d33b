"""The images of a prediction: files and folders, or images in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from src.configs.errors import InputError
from src.datamodules.images.listing import files_below
from src.datamodules.passed_over import PassedOver
from src.datamodules.preparation import PredictionInput
from src.resources.files import printable

GivenImage = Path | bytes | Image.Image | np.ndarray
"""A file, or an image in memory: a file's contents, opened by PIL, or uint8 [height, width(, channels)]."""


def given_images(inputs: Sequence[PredictionInput], notes: list[str]) -> tuple[list[GivenImage], list[str]]:
    """Return each image, and its id: the path as given, or for an image in memory its 0-based row.

    Folders are searched through, and what is passed over in them is noted; an array [images, height, width, channels]
    is several images.

    Raises:
        InputError: a file that is not there, a folder that may not be read, no image at all, or an input that cannot be
            one.
    """
    passed = PassedOver()
    images = [image for given in inputs for image in _images_of(given, passed)]
    notes += passed.notes()
    if not images:
        shown = ", ".join(str(one) if isinstance(one, str | Path) else "an empty array" for one in inputs)
        raise InputError(f"{shown or 'no input'}: nothing to predict. Name files or folders.")
    return images, [printable(image) if isinstance(image, Path) else str(row) for row, image in enumerate(images)]


def _images_of(given: PredictionInput, passed: PassedOver) -> Iterator[GivenImage]:
    if isinstance(given, str | Path):
        path = Path(given)
        if not _is_there(path):
            raise InputError(f"{path}: no such file or folder.")
        yield from files_below(path, passed) if path.is_dir() else [path]
    elif isinstance(given, Image.Image | bytes):
        yield given
    elif isinstance(given, np.ndarray):
        yield from _arrays_of(given)
    else:
        raise InputError(
            f"a {type(given).__name__}: the run predicts images. Give files, folders, PIL images or uint8 arrays."
        )


def _arrays_of(given: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the images of an array as Pillow takes them: a single channel has no axis."""
    channels = given.shape[-1] if given.ndim > 2 else 1
    if given.dtype != np.uint8 or not 2 <= given.ndim <= 4 or channels not in (1, 3, 4) or 0 in given.shape[-3:]:
        raise InputError(
            f"an array of {given.dtype} {list(given.shape)}: images are uint8 [height, width], "
            "[height, width, channels] or [images, height, width, channels], with 1, 3 or 4 channels."
        )
    for image in given if given.ndim == 4 else given[None]:
        yield image[..., 0] if image.ndim == 3 and channels == 1 else image


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long, a folder that may not be entered
        return False
