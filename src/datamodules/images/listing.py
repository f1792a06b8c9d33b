"""The files below a folder, quickly, however many there are."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from src.configs.errors import InputError
from src.resources.files import printable

LEFT_BY_SYSTEMS = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
"""Files that Windows and macOS write into folders of images."""
FOLDERS_OF_SYSTEMS = {"@eadir", "__macosx", "lost+found", "#recycle", "$recycle.bin", "system volume information"}
"""Folders that storage boxes, archives and file systems leave, in lower case; such as Synology's thumbnails."""


@dataclass(frozen=True, eq=False)
class Listing(Sequence[Path]):
    """Files below a folder. Only names are kept: a million paths would take half a gigabyte."""

    root: Path
    names: list[str]
    """Paths below `root`, with slashes."""

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, at: int) -> Path: ...
    @overload
    def __getitem__(self, at: slice) -> Listing: ...
    def __getitem__(self, at: int | slice) -> Path | Listing:
        return Listing(self.root, self.names[at]) if isinstance(at, slice) else self.root / self.names[at]


def files_below(folder: Path) -> Listing:
    """Return every file below a folder, in order of their paths; see `names_below`."""
    return Listing(folder, list(names_below(folder)))


def names_below(root: Path, below: str = "") -> Iterator[str]:
    """Yield every file below the folder `root / below`, relative to `root`, in order of their paths.

    Hidden files and folders, and what Windows leaves in them, are passed over. Links to folders are followed, each
    folder being entered once only; links to nothing are returned, for whoever opens them to say so. No file is looked
    at for itself: 200 000 take seconds.

    Raises:
        InputError: a folder may not be read.
    """
    return _walk(root, below, set())


def _walk(root: Path, below: str, seen: set[tuple[int, int]]) -> Iterator[str]:
    """Yield the files of `root / below` and deeper, relative to `root`."""
    names: list[str] = []
    folders: set[str] = set()
    try:
        here = (root / below).stat()
        if (here.st_dev, here.st_ino) in seen:  # a link back up, or a second way to the same folder
            return
        seen.add((here.st_dev, here.st_ino))
        with os.scandir(root / below) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name.lower() in LEFT_BY_SYSTEMS | FOLDERS_OF_SYSTEMS:
                    continue
                name = f"{below}/{entry.name}" if below else entry.name
                if is_folder := _is_folder(entry):
                    folders.add(name)
                if is_folder or entry.is_symlink() or entry.is_file():
                    names.append(name)
    except FileNotFoundError:  # gone meanwhile
        return
    except OSError as error:
        raise InputError(
            f"{printable(root / below)}: the folder cannot be read ({error.strerror}). Allow it, or hide it with "
            "a leading dot."
        ) from error
    names.sort()  # folders among the files: the order of paths, part by part
    for name in names:
        if name in folders:
            yield from _walk(root, name, seen)
        else:
            yield name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
