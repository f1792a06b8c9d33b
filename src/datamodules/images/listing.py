"""The files below a folder, quickly, however many there are."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, overload

from src.configs.errors import InputError
from src.datamodules.passed_over import PassedOver, holds_no_data
from src.resources.files import printable


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


class Contents(NamedTuple):
    """The names in a folder, in order, but for what is passed over."""

    folders: list[str]
    files: list[str]


def contents(folder: Path, passed: PassedOver | None = None) -> Contents:
    """Return what is in a folder; add to `passed` what is passed over.

    Raises:
        InputError: the folder may not be read.
    """
    found = Contents([], [])
    with _explained(folder), os.scandir(folder) as entries:
        for entry in entries:
            if not holds_no_data(entry.name):
                found[not _is_folder(entry)].append(entry.name)
            elif passed is not None:
                passed.add(entry.name, is_folder=_is_folder(entry))
    found.folders.sort()
    found.files.sort()
    return found


def files_below(folder: Path, passed: PassedOver) -> Listing:
    """Return every file below a folder, in order of their paths; see `names_below`."""
    return Listing(folder, list(names_below(folder, passed)))


def names_below(root: Path, passed: PassedOver, below: str = "") -> Iterator[str]:
    """Yield every file below the folder `root / below`, relative to `root`, in order of their paths.

    Hidden files and folders, and what systems leave, are passed over, and added to `passed`. Links to folders are
    followed, each folder being entered once only; links to nothing are returned, for whoever opens them to say so. No
    file is looked at for itself: 200 000 take seconds.

    Raises:
        InputError: a folder may not be read.
    """
    return _walk(root, below, passed, set())


def _walk(root: Path, below: str, passed: PassedOver, seen: set[tuple[int, int]]) -> Iterator[str]:
    """Yield the files of `root / below` and deeper, relative to `root`."""
    names: list[str] = []
    folders: set[str] = set()
    with _explained(root / below):
        here = (root / below).stat()
        if (here.st_dev, here.st_ino) in seen:  # a link back up, or a second way to the same folder
            return
        seen.add((here.st_dev, here.st_ino))
        with os.scandir(root / below) as entries:
            for entry in entries:
                if holds_no_data(entry.name):
                    passed.add(entry.name, is_folder=_is_folder(entry))
                    continue
                name = f"{below}/{entry.name}" if below else entry.name
                if is_folder := _is_folder(entry):
                    folders.add(name)
                if is_folder or entry.is_symlink() or entry.is_file():
                    names.append(name)
    names.sort()  # folders among the files: the order of paths, part by part
    for name in names:
        if name in folders:
            yield from _walk(root, name, passed, seen)
        else:
            yield name


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Raise an InputError where a folder cannot be read; one that is gone meanwhile has nothing in it."""
    try:
        yield
    except FileNotFoundError:
        pass
    except OSError as error:
        raise InputError(
            f"{printable(folder)}: the folder cannot be read ({error.strerror}). Allow it, or hide it with a leading "
            "dot."
        ) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
