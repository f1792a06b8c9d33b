"""The cache: what can be made again, and is made once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from src.configs.errors import InputError
from src.resources.files import ROOT
from src.terminal import console

Made = TypeVar("Made")


def cache_dir() -> Path:
    """Return the folder for what can be made again: LEYDEN_CACHE, else `.cache` of the checkout."""
    return Path(os.environ.get("LEYDEN_CACHE") or ROOT / ".cache")


def once(
    path: Path,
    read: Callable[[Path], Made | None],
    fill: Callable[[Path], Made],
    *,
    fallback: Callable[[], Made] | None = None,
    so: str = "",
) -> Made:
    """Return what is at a path of the cache; what is not there, or is damaged, is made first.

    Processes that ask for the same path at the same time wait for one another. A file or folder appears whole or not at
    all. What can be read needs no right to write.

    Args:
        path: below `cache_dir()`; its name stands for all that the content depends on.
        read: returns what is at a path, None where that is nothing or damaged.
        fill: makes the file or folder at a temporary path, which then becomes `path`, and returns what `read` will.
        fallback: what to return where the cache cannot be written, be it full or for reading only; this is printed.
        so: what follows from that.

    Raises:
        InputError: the cache cannot be written, and there is no fallback.
    """
    if (found := read(path)) is not None:
        return found
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f"{path.name}.lock")):
            if (found := read(path)) is None:
                found = _fill(path, fill)
        return found
    except OSError as error:
        if fallback is None:
            raise InputError(
                f"{path}: cannot be kept ({error.strerror or error}). Free some space, or set LEYDEN_CACHE to another "
                "folder."
            ) from error
        console.line(
            "CACHE",
            f"{path.parent} cannot be written ({error.strerror or error}): {so}. Free some space, or set LEYDEN_CACHE "
            "to another folder.",
        )
    return fallback()


def there(path: Path) -> Path | None:
    """Return a path at which there is something: for `once`, of what a rename made whole and nothing damages."""
    return path if path.exists() else None


def _fill(path: Path, fill: Callable[[Path], Made]) -> Made:
    part = path.with_name(f"{path.name}.part")  # the lock is held; of tempfile, colleagues could not read it
    _remove(part)  # of a process that was killed
    try:
        made = fill(part)
        _remove(path)
        part.replace(path)
    finally:
        _remove(part)
    return made


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
