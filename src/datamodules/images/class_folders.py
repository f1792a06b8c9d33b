"""Images in class folders, however many: which there are, of which class, and in which split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from src.configs.errors import InputError
from src.datamodules.images.chosen import Chosen
from src.datamodules.images.listing import Listing, names_below
from src.datamodules.splits import SPLIT_NAMES, SPLIT_SEED, SPLITS, TEST_SHARE, VAL_SHARE
from src.datamodules.targets import Targets
from src.resources.files import printable


def scan(root: Path) -> tuple[dict[str, Chosen], str]:
    """Return the images of each split of a folder, and how the split was made. Hidden files are passed over.

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
            "Expected <folder>/<class>/<image> or <folder>/{train,val,test}/<class>/<image>."
        )
    for split, found in classes.items():
        if found != classes["train"]:
            odd = ", ".join(sorted(found ^ classes["train"]))
            raise InputError(
                f"--data-dir {root}: {split} and train differ in classes: {odd}. Each split needs every class."
            )
    return splits, how


def listed(root: Path, folders: Sequence[str]) -> list[Chosen]:
    """Return the images of each of some folders {root}/{folder}/{class}/, of one listing.

    Args:
        folders: in order; '' is `root` itself.
    """
    names: list[str] = []
    classes: list[str] = []
    ends = [0]
    for folder in folders:
        for name in _class_folders(root / folder):
            before = len(names)
            names += names_below(root, f"{folder}/{name}" if folder else name)
            classes += [printable(name)] * (len(names) - before)
        ends.append(len(names))
    files, targets = Listing(root, names), Targets("single_label", "", classes)
    return [Chosen(files, targets, np.arange(start, end)) for start, end in pairwise(ends)]


def _class_folders(folder: Path) -> Iterator[str]:
    return (path.name for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith("."))
