"""Lists the images in class folders, with their classes and splits."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from src.configs.errors import InputError
from src.datamodules.images.chosen import Chosen
from src.datamodules.images.listing import FOLDERS_OF_SYSTEMS, Listing, names_below
from src.datamodules.sources import unused
from src.datamodules.splits import SPLIT_NAMES, SPLIT_SEED, TEST_SHARE, VAL_SHARE, named_splits
from src.datamodules.targets import Targets
from src.resources.files import printable


def scan(root: Path) -> tuple[dict[str, Chosen], str, list[str]]:
    """Return the images of each split of a folder, how the split was made, and notes on what is not used.

    Hidden files are passed over, and what systems leave. A folder is a split if its name says so, as `named_splits`
    reads it, and class folders are in it.

    Raises:
        InputError: no such folder, nothing in it, one class, splits without train, or classes that differ between
            splits.
    """
    if not root.is_dir():
        raise InputError(f"--data-dir {root}: no such folder.")
    where = f"--data-dir {root}"
    shown = sorted(path for path in root.iterdir() if not path.name.startswith("."))
    folders = [path for path in shown if path.is_dir() and _class_folders(path)]
    given = {split: _unwrapped(path) for split, path in named_splits(folders, where).items()}
    if given:
        parts = listed(root, [str(path.relative_to(root)) for path in given.values()])
        splits = dict(zip(given, parts, strict=True))
        how = "as given"
        if "val" not in splits:
            splits |= splits["train"].divided({"val": VAL_SHARE}, where)
            how = f"as given, but val {VAL_SHARE:.0%} of train by class, seed {SPLIT_SEED}"
        tops = {root / path.relative_to(root).parts[0] for path in given.values()}
        notes = unused([path.name for path in shown if path not in tops], root)
        for path in given.values():
            beside = [one.name for one in path.iterdir() if not one.name.startswith(".") and not one.is_dir()]
            notes += unused(sorted(beside), path)
    else:
        if len(said := [path.name for path in folders if path.name.lower() in SPLIT_NAMES]) > 1:
            raise InputError(f"{where}: {' and '.join(said)} look like splits, but none is train. Name one train.")
        (whole,) = listed(root, [""])
        splits = whole.divided({"val": VAL_SHARE, "test": TEST_SHARE}, where)
        how = f"by class, val {VAL_SHARE:.0%}, test {TEST_SHARE:.0%}, seed {SPLIT_SEED}"
        classes_of_root = set(_class_folders(root))
        notes = unused([path.name for path in shown if path.name not in classes_of_root], root)
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
    return splits, how, notes


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
            classes += [unicodedata.normalize("NFC", printable(name))] * (len(names) - before)
        ends.append(len(names))
    files, targets = Listing(root, names), Targets("single_label", "", classes)
    return [Chosen(files, targets, np.arange(start, end)) for start, end in pairwise(ends)]


def _class_folders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, in order, without hidden ones and those that systems leave."""
    return [
        path.name
        for path in sorted(folder.iterdir())
        if path.is_dir() and not path.name.startswith(".") and path.name.lower() not in FOLDERS_OF_SYSTEMS
    ]


def _unwrapped(folder: Path) -> Path:
    """Return the folder itself, or the one in it that has its name and is all there is, as archives of data sets have
    it: `seg_train/seg_train`."""
    return folder / folder.name if _class_folders(folder) == [folder.name] else folder
