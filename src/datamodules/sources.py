"""Where examples come from: sources in their order, and the user's own files below `data/`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np

from src.configs.errors import InputError
from src.datamodules.splits import named_splits
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


def split_files(path: Path, suffixes: Sequence[str], notes: list[str]) -> dict[str, Path]:
    """Return the file of each split in a folder, or `path` itself as 'train' if it is a file; note what is not used.

    Raises:
        InputError: another suffix, no train file, or two files for one split.
    """
    if path.is_file():
        if path.suffix.lower() not in suffixes:
            raise InputError(f"--data-dir {path}: not a table. Expected one of {', '.join(suffixes)}.")
        return {"train": path}
    there = sorted(one for one in path.iterdir() if not one.name.startswith("."))
    tables = [file for file in there if file.suffix.lower() in suffixes]
    found = named_splits(tables, f"--data-dir {path}")
    if not found:
        raise InputError(
            f"--data-dir {path}: no train file. Expected train{suffixes[0]} and maybe val{suffixes[0]} and "
            f"test{suffixes[0]} ({', '.join(suffixes)}), or name one file."
        )
    notes += unused([one.name for one in there if one not in found.values()], path)
    return found


def unused(names: Sequence[str], folder: Path) -> list[str]:
    """Return a note on files and folders that are in a data folder and belong to no split; [] where there are none."""
    if not names:
        return []
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    shown = ", ".join(map(printable, names[:5]))
    return [f"not used in {printable(folder)}: {shown}{more}"]
