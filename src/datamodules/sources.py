"""Where examples come from: sources in their order, and the user's own files below `data/`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np

from src.configs.errors import InputError
from src.configs.table import Csv
from src.datamodules.headers import SUFFIXES, column_names, require_column, require_suffix
from src.datamodules.passed_over import PassedOver, holds_no_data, some_names
from src.datamodules.split_names import named_splits
from src.resources.files import printable

Samples = TypeVar("Samples", bound=Sized)


@dataclass(frozen=True)
class LoadedSplits(Generic[Samples]):
    """What a source served: the examples of each split and how they were split."""

    source: str
    """For the log and the record: 'folder /data/x', 'drawn'."""
    split: str
    """How the splits were made: 'as given', 'stratified 70/15/15, seed 0'."""
    samples: Mapping[str, Samples]
    """Split -> examples; 'test' may be missing."""
    fallback: bool = False
    """Whether this only stands in for real data, so that no number from it is taken for one from the real thing."""
    whole: Samples | None = None
    """All examples, where they came without splits of their own."""


class Divisible(Protocol):
    """What a data module says of examples of `LoadedSplits`, so that they can be left out or divided into folds."""

    neighbours_alike: ClassVar[bool]

    def labels(self, samples: Any) -> Any:
        """Return what parts should have equal shares of; see `assign_folds`."""
        ...

    def groups(self, samples: Any) -> Sequence[str] | None:
        """Return the group of each example, which parts must not divide."""
        ...

    def names_of(self, samples: Any, found: LoadedSplits[Any]) -> Sequence[str]:
        """Return the id of each example."""
        ...

    def subset(self, samples: Any, positions: Sequence[int] | np.ndarray) -> Any:
        """Return some of the examples by position."""
        ...


def first_available(
    sources: Mapping[str, Callable[[], LoadedSplits[Any] | None]], wanted: str, data_dir: Path | None
) -> LoadedSplits[Any]:
    """Return what the first available source serves, or the wanted one.

    Args:
        sources: name -> returns None where it is not available; the first is the user's own data.
        wanted: a name, or 'auto'.
        data_dir: where the user's own data are; what the user names is never replaced by another source.

    Raises:
        InputError: the wanted source is unknown or not available here, or none is.
    """
    if wanted != "auto" and wanted not in sources:
        raise InputError(f"--source {wanted}: unknown here. Choose from auto, {', '.join(sources)}.")
    names = list(sources) if wanted == "auto" else [wanted]
    if data_dir is not None:
        first = next(iter(sources))
        if first not in names:
            raise InputError(f"--data-dir {data_dir} and --source {wanted}: give one of the two.")
        names = [first]
    for name in names:
        if (found := sources[name]()) is not None:
            return found
    raise InputError(f"--source {wanted}: not available here ({', '.join(names)}: no network, or no such folder).")


def own_data(data_dir: Path | None, name: str, suffixes: Sequence[str] = ()) -> Path | None:
    """Return where the user's own data are: `data_dir`, else the folder `data/<name>` or such a file; None for neither.

    Args:
        suffixes: of files; without any, only a folder will do.

    Raises:
        InputError: `data_dir` is not there.
    """

    def is_there(path: Path) -> bool:
        return path.exists() if suffixes else path.is_dir()

    if data_dir is None:
        return next(filter(is_there, (Path("data") / f"{name}{suffix}" for suffix in ("", *suffixes))), None)
    if not is_there(data_dir):
        raise InputError(f"--data-dir {data_dir}: no such {'file or folder' if suffixes else 'folder'}.")
    return data_dir


def split_files(path: Path, notes: list[str]) -> dict[str, Path]:
    """Return the file of each split in a folder, or `path` itself as 'train' if it is a file; note what is not used.

    Raises:
        InputError: another suffix, no train file, or two files for one split.
    """
    if path.is_file():
        require_suffix(path, "--data-dir ")
        return {"train": path}
    passed = PassedOver()
    there = list[Path]()
    for one in sorted(path.iterdir()):
        if holds_no_data(one.name):
            passed.add(one.name, is_folder=one.is_dir())
        else:
            there.append(one)
    tables = [file for file in there if file.suffix.lower() in SUFFIXES and not file.is_dir()]
    found = named_splits(tables, f"--data-dir {path}")
    if not found:
        beside = f" There: {some_names(file.name for file in tables)}." if tables else ""
        raise InputError(
            f"--data-dir {path}: no train file. Expected train.csv and maybe val.csv and "
            f"test.csv ({', '.join(SUFFIXES)}), or name one file.{beside}"
        )
    left = [one for one in there if one not in found.values()]
    notes += unused([file.name for file in left if file in tables], path, "the name says no split of these")
    notes += unused([one.name for one in left if one not in tables], path, "no table")
    notes += passed.notes()
    return found


def unused(names: Sequence[str], folder: Path, why: str) -> list[str]:
    """Return a note on files and folders that are in a data folder and belong to no split; [] where there are none."""
    if not names:
        return []
    return [f"not used in {printable(folder)}: {some_names(names)} ({len(names)}: {why})"]


def require_columns(data_dir: Path, how: Csv, wanted: Mapping[str, Sequence[str]]) -> None:
    """Raise an InputError where a user's table, or the table of a split, is not there or lacks a column.

    Args:
        data_dir: a file, or a folder of split files.
        how: how a CSV is written.
        wanted: flag -> columns.
    """
    for split, file in split_files(data_dir, []).items():
        there = column_names(file, how)
        for flag, names in wanted.items():
            for name in names:
                require_column(there, name, flag, f" in {split}")
