"""The cache: what can be made again."""

from __future__ import annotations

import os
from pathlib import Path

from src.resources.files import ROOT


def cache_dir() -> Path:
    """Return the folder for what can be made again: LEYDEN_CACHE, else `.cache` of the checkout."""
    return Path(os.environ.get("LEYDEN_CACHE") or ROOT / ".cache")


def say_not_kept(folder: Path, error: OSError, so: str) -> None:
    """Print that a folder of the cache cannot be written, what follows, and the way out."""
    print(
        f"CACHE      {folder} cannot be written ({error.strerror or error}): {so}. Make room, or set LEYDEN_CACHE to "
        "another folder.",
        flush=True,
    )
