"""Files of tensors, which may be from elsewhere."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch


def load_weights(path: Path, map_location: Any = "cpu") -> Any:
    """Return what `torch.save` wrote, tensors and plain values alone: nothing in the file is run.

    A compressed archive is refused before it is read: a few kilobytes may become terabytes, and torch compresses none.

    Raises:
        ValueError: it is compressed. torch raises a dozen other kinds for damaged files.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
        stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
        if not stored or sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise ValueError("it is compressed, and torch.save compresses nothing")
    return torch.load(path, map_location=map_location, weights_only=True)
