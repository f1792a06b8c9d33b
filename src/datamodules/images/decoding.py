"""Decodes an image file of any format and size to a small square array, in bounded memory."""

from __future__ import annotations

import threading
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

UNREADABLE = Exception
"""What is raised for files that are no image, cut short or damaged: Pillow's plugins have no common kind of error."""
MOST_PIXELS = 178_956_970
"""Pixels of an image in memory, where Pillow raises, also for what its plugins find inside files: 0.7 GB. Photographs
from phones reach 200 million, but they are JPEGs, which are scaled while decoded."""
LARGE = 2**24
"""Images of at least so many pixels in memory are decoded one at a time, however many threads there are."""

_ONE_AT_A_TIME = threading.Lock()


class TooLarge(ValueError):
    """An image that would not fit into memory: very large, or a small file made to seem so."""


def decode(file: Path | BinaryIO | bytes | Image.Image | np.ndarray, size: int) -> np.ndarray:
    """Decode an image, turn it upright, and fit its middle square: uint8 [size, size, 3].

    The shorter side becomes `size`; JPEGs are scaled while decoded, and cropping and resizing are one pass. What is
    transparent becomes white, and of moving images the first is taken. Every image, for training, evaluation or
    prediction, goes through here. One in memory, an opened image or uint8 [height, width(, channels)], is not scaled
    while decoded; the contents of a file are.

    Raises:
        one of UNREADABLE.
    """
    if isinstance(file, Path):
        with open_regular(file) as opened:
            return decode(opened, size)
    if isinstance(file, bytes):
        file = BytesIO(file)
    if isinstance(file, np.ndarray):
        file = Image.fromarray(file)
    if isinstance(file, Image.Image):
        return _fitted(ImageOps.exif_transpose(file), size)  # a copy: the caller's stays as it is
    with _opened(file) as image:
        width, height = image.size
        held = width * height >= LARGE and isinstance(image, JpegImageFile) and not one_scan(file)
        image.draft("RGB", (size, size))
        if not held:
            width, height = image.size
        if width * height > MOST_PIXELS:
            raise _too_large(width, height)
        if width * height < LARGE:
            return _fitted(image, size)
        with _ONE_AT_A_TIME:
            return _fitted(image, size)


def open_regular(path: Path) -> BufferedReader:
    """Open a file to be read; a pipe would block and a device might never end."""
    if path.exists() and not path.is_file():
        raise OSError("a folder" if path.is_dir() else "not a regular file")
    return open(path, "rb")


def _opened(file: BinaryIO) -> Image.Image:
    """Open an image; a JPEG may have more pixels than the limit, for they do not all come into memory."""
    try:
        return Image.open(file)
    except Image.DecompressionBombError:
        file.seek(0)
        try:
            return JpegImageFile(file)
        except SyntaxError:  # another format
            raise _too_large() from None


def one_scan(file: BinaryIO) -> bool:
    """Return whether a JPEG is decoded row by row: not progressive, all components in its first scan.

    Of any other JPEG libjpeg holds all coefficients, six bytes a pixel, also where it is scaled.
    """
    file.seek(0)
    image = JpegImageFile(file)
    if "progressive" in image.info:
        return False
    length = 6 + 2 * image.layers  # of a scan's header, which Pillow has just passed
    file.seek(-length, 1)
    header = file.read(3)
    return header == bytes([0, length, image.layers])


def _too_large(*sides: int) -> TooLarge:
    is_of = f"{sides[0]} x {sides[1]} pixels, " if sides else ""
    return TooLarge(
        f"{is_of}more than {MOST_PIXELS // 10**6} million pixels: damaged, or made to fill the memory. If neither, "
        "save it smaller, or as a plain (not progressive) JPEG"
    )


def _fitted(image: Image.Image, size: int) -> np.ndarray:
    """Return the image as `decode` does. A copy of a large one costs hundreds of MB, so none is made without need."""
    ImageOps.exif_transpose(image, in_place=True)
    image = _rgb(image)
    return np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC))


def _rgb(image: Image.Image) -> Image.Image:
    """Return the image in 8 bits of red, green and blue.

    Raises:
        ValueError: its numbers have no meaning as brightness.
    """
    if image.mode == "F":
        raise ValueError("pixels are floating-point numbers of no known range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # Pillow would cut 16 bits off at 255, that is to white
        image = Image.fromarray((np.clip(np.asarray(image), 0, 2**16 - 1) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.new("RGB", layer.size, "white")  # what viewers show; the colours below alpha 0 are anything
        image.paste(layer, mask=layer.getchannel("A"))
    return image if image.mode == "RGB" else image.convert("RGB")


def why_unreadable(error: BaseException) -> str:
    """Say in a few words what is wrong with a file; Pillow's own words name the buffer it was read into."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror  # the file is named beside it
    return str(error) or type(error).__name__
