"""Pictures in class folders, however many: which there are, of which class, and in which split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from src.configs.errors import InputError
from src.datamodules.images.listing import Listing, names_below
from src.datamodules.splits import SPLIT_NAMES, SPLIT_SEED, SPLITS, TEST_SHARE, VAL_SHARE, divide
from src.resources.files import printable


@dataclass(frozen=True, eq=False)
class Chosen:
    """Some pictures of a folder. The splits share all but `rows`, so a picture costs its name and a few bytes."""

    files: Listing
    """All pictures of the folder, in order of their paths."""
    classes: tuple[str, ...]
    targets: np.ndarray
    """int32 [files], positions in `classes`."""
    rows: np.ndarray
    """int64 [pictures], positions in `files`."""

    def __len__(self) -> int:
        return len(self.rows)

    def of(self, rows: np.ndarray) -> Chosen:
        """Return other pictures of the folder."""
        return replace(self, rows=rows)

    def subset(self, positions: Sequence[int] | np.ndarray) -> Chosen:
        """Return some of these pictures."""
        return self.of(self.rows[positions])

    def divided(self, shares: Mapping[str, float], where: str) -> dict[str, Chosen]:
        """Return these pictures divided by class, as `divide` does."""
        return {split: self.subset(positions) for split, positions in divide(self.labels, shares, where).items()}

    @property
    def labels(self) -> list[str]:
        """The class of each picture."""
        return [self.classes[target] for target in self.targets[self.rows]]

    def classes_there(self) -> set[str]:
        """Return the classes of which there is a picture."""
        return {self.classes[target] for target in np.unique(self.targets[self.rows])}


def scan(root: Path) -> tuple[dict[str, Chosen], str]:
    """Return the pictures of each split of a folder, and how the split was made. Hidden files are passed over.

    Raises:
        InputError: no such folder, nothing in it, one class, or classes that differ between splits.
    """
    if not root.is_dir():
        raise InputError(f"--data-dir {root}: no such folder.")
    folders = [path.name for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    given = {SPLIT_NAMES[name.lower()]: name for name in folders if name.lower() in SPLIT_NAMES}
    if "train" in given:
        there = dict(zip(sorted(given, key=given.__getitem__), listed(root, sorted(given.values())), strict=True))
        splits = {split: there[split] for split in SPLITS if split in there}
        how = "as given"
        if "val" not in splits:
            splits |= splits["train"].divided({"val": VAL_SHARE}, f"--data-dir {root}")
            how = f"as given, but val {VAL_SHARE:.0%} of train by class, seed {SPLIT_SEED}"
    else:
        (whole,) = listed(root, [""])
        splits = whole.divided({"val": VAL_SHARE, "test": TEST_SHARE}, f"--data-dir {root}")
        how = f"by class, val {VAL_SHARE:.0%}, test {TEST_SHARE:.0%}, seed {SPLIT_SEED}"
    classes = {split: part.classes_there() for split, part in splits.items()}
    if len(classes["train"]) < 2:
        there = ", ".join(sorted(classes["train"])) or "none"
        raise InputError(
            f"--data-dir {root}: a classifier needs at least two class folders with files; found: {there}. "
            "Expected <folder>/<class>/<picture> or <folder>/{train,val,test}/<class>/<picture>."
        )
    for split, found in classes.items():
        if found != classes["train"]:
            odd = ", ".join(sorted(found ^ classes["train"]))
            raise InputError(
                f"--data-dir {root}: {split} and train differ in classes: {odd}. Each split needs every class."
            )
    return splits, how


def listed(root: Path, folders: Sequence[str]) -> list[Chosen]:
    """Return the pictures of each of some folders {root}/{folder}/{class}/, of one listing.

    Args:
        folders: in order; '' is `root` itself.
    """
    names: list[str] = []
    numbers: dict[str, int] = {}
    targets = [np.empty(0, np.int32)]
    ends = [0]
    for folder in folders:
        for name in _class_folders(root / folder):
            before = len(names)
            names += names_below(root, f"{folder}/{name}" if folder else name)
            number = numbers.setdefault(printable(name), len(numbers))
            targets.append(np.full(len(names) - before, number, np.int32))
        ends.append(len(names))
    files, classes, of = Listing(root, names), tuple(numbers), np.concatenate(targets)
    return [Chosen(files, classes, of, np.arange(start, end)) for start, end in pairwise(ends)]


def _class_folders(folder: Path) -> Iterator[str]:
    return (path.name for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith("."))
