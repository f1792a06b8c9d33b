"""Image files as uint8 arrays: decoded once into a memory-mapped file, or anew each time."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from joblib import cpu_count

from src.datamodules.images.decoding import UNREADABLE, decode, open_regular, why_unreadable
from src.resources.cache import cache_dir, once
from src.resources.files import write_json
from src.terminal import console

CHUNK = 4096
"""Files that are in the hands of the decoding threads at a time."""


@dataclass(frozen=True)
class Decoded:
    """What one pass over image files found."""

    pixels: Path | None
    """File of uint8 [files, size, size, 3], to be mapped; None where nothing is kept: files are decoded when needed."""
    digests: np.ndarray
    """Hash of each file's bytes, 16 hex digits as 'S16' [files]; b'' where it cannot be read."""
    unreadable: dict[int, str]
    """Position of each file that does not open -> why."""
    unread: frozenset[int] = frozenset()
    """Those of them that were not read to their ends, which says nothing of them: the disk or the memory failed."""


def decode_all(files: Sequence[Path], size: int, *, keep: bool = True) -> Decoded:
    """Decode every file once and keep the result in the cache; later calls with unchanged files only map it.

    With `keep` false only what the pass found is kept: digests and unreadable files. Where the cache cannot be written
    (a full disk, no right to), nothing is kept and a line says so: every run then does the pass, and decodes when
    images are needed.

    Processes that ask for the same files at the same time wait for one another. The result appears whole or not at all.
    """
    folder = cache_dir() / "images" / _key(files, size, keep)
    return once(
        folder,
        lambda path: _open(path, files, size, keep),
        lambda part: _fill(part, folder, files, size, keep),
        fallback=lambda: _pass(files, size, None),
        so="images are decoded whenever they are needed, which is slow",
    )


def _key(files: Sequence[Path], size: int, keep: bool) -> str:
    """Return what stands for these files as they are now."""
    above = functools.cache(Path.resolve)  # once a folder: for each file it would take a minute for a million
    digest = hashlib.sha256(f"[3, {size}, {json.dumps(keep)}, [".encode())
    for i, path in enumerate(files):  # the JSON of [3, size, keep, [[path, bytes, time], ...]], a piece at a time
        stat = json.dumps([f"{above(path.parent)}/{path.name}", *_stat(path)])
        digest.update(f"{', ' if i else ''}{stat}".encode())
    digest.update(b"]]")
    return digest.hexdigest()[:24]


def _stat(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:  # gone, or a broken link: the pass will say so
        return -1, -1
    return stat.st_size, stat.st_mtime_ns


def _open(folder: Path, files: Sequence[Path], size: int, keep: bool) -> Decoded | None:
    """Map a finished cache; None where there is none, it is damaged, a file opens now that could not be read, or there
    is room now for images that could not be kept.
    """
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        if keep and not index["kept"] and _fits(folder, files, size):
            return None
        pixels = folder / "pixels.npy" if index["kept"] else None
        if pixels:
            mapped = np.load(pixels, mmap_mode="r", allow_pickle=False)
            if mapped.shape != (len(files), size, size, 3) or mapped.dtype != np.uint8:
                return None
        if len(index["digests"]) != len(files) or any(_opens(files[i]) for i in index["unread"]):
            return None
        digests = np.array(index["digests"], "S16")
        return Decoded(pixels, digests, {int(i): why for i, why in index["unreadable"].items()})
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


def _fits(folder: Path, files: Sequence[Path], size: int) -> bool:
    """Return whether the decoded images take less than half of the disk's free space."""
    return len(files) * size * size * 3 < shutil.disk_usage(folder).free / 2


def _opens(path: Path) -> bool:
    try:
        open_regular(path).close()
    except OSError:
        return False
    return True


def _fill(part: Path, folder: Path, files: Sequence[Path], size: int, keep: bool) -> Decoded:
    """Decode into a folder `part` that will be `folder`."""
    space, kept = len(files) * size * size * 3, keep and _fits(folder.parent, files, size)
    where = f", {space / 1e6:.0f} MB in {folder.parent}" if kept else ""
    if keep and not kept:
        where = f", and each time they are needed: {space / 1e6:.0f} MB are too much for {folder.parent}"
    console.line("decoding", f"{len(files)} images once{where}")
    part.mkdir()
    found = _pass(files, size, part / "pixels.npy" if kept else None)
    index = {
        "kept": kept,
        "digests": [digest.decode() for digest in found.digests],
        "unreadable": found.unreadable,
        "unread": [*{i for i in found.unreadable if not _opens(files[i])} | found.unread],
    }
    write_json(part / "index.json", index)
    return replace(found, pixels=folder / "pixels.npy" if kept else None)


def _pass(files: Sequence[Path], size: int, to: Path | None) -> Decoded:
    """Decode every file in threads (Pillow lets go of the interpreter), into the file `to` if that is given.

    Raises:
        OSError: `to` cannot be written.
    """
    pixels = _reserve(to, (len(files), size, size, 3)) if to else None
    digests = np.zeros(len(files), "S16")
    unreadable: dict[int, str] = {}
    unread: set[int] = set()

    def one(position: int) -> None:
        try:
            with open_regular(files[position]) as file:
                image = decode(file, size)
                file.seek(0)
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except UNREADABLE as error:
            unreadable[position] = why_unreadable(error)
            if isinstance(error, MemoryError) or getattr(error, "errno", None):  # Pillow's own errors have no number
                unread.add(position)
            return
        digests[position] = digest[:16]
        if pixels is not None:
            pixels[position] = image

    with ThreadPoolExecutor(cpu_count()) as pool:
        for start in range(0, len(files), CHUNK):  # a job for each of a million files would take a gigabyte
            list(pool.map(one, range(start, min(start + CHUNK, len(files)))))
    if pixels is not None:
        pixels.flush()
    return Decoded(to, digests, unreadable, frozenset(unread))


def _reserve(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, np.dtype[np.uint8]]:
    """Return a new mapped file whose room on the disk is taken: a disk that is full later would kill the process.

    Raises:
        OSError: there is not so much room.
    """
    pixels = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return pixels
