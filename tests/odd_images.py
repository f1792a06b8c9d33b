"""Images and names out of the ordinary, for the tests of data modules and of runs."""

from __future__ import annotations

import io
import os
import struct
import zlib
from typing import Any

from PIL import Image

STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""EXIF orientation -> how an upright image is stored under it."""
BYTES = os.fsdecode(b"caf\xe9.png")
"""A name in Latin-1, as old archives have them."""


def saved(image: Image.Image, kind: str, **how: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """Return a PNG of 1 kB that says it is so large."""
    data = bytearray(saved(Image.new("1", (64, 64)), "png"))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)
