"""Lists the images in class folders, with their classes and splits."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from src.configs.errors import InputError
from src.datamodules.images.chosen import Chosen
from src.datamodules.images.listing import Listing, contents, names_below
from src.datamodules.passed_over import PassedOver, some_names
from src.datamodules.sources import unused
from src.datamodules.split_names import like_splits, named_splits, says_split
from src.datamodules.splits import SPLIT_SEED, TEST_SHARE, VAL_SHARE
from src.datamodules.targets import Targets
from src.resources.files import printable


def scan(root: Path) -> tuple[dict[str, Chosen], str, list[str]]:
    """Return the images of each split of a folder, how the split was made, and notes on what is not used.

    Hidden files and what systems leave are passed over. A folder is a split if its name says so, as `named_splits`
    reads it, and class folders are in it.

    Raises:
        InputError: no such folder, nothing in it, one class, folders that look like splits and cannot be used, or
            classes that differ between splits.
    """
    where = f"--data-dir {root}"
    if not root.is_dir():
        raise InputError(f"{where}: no such folder.")
    passed = PassedOver()
    here = contents(root, passed)
    inside = {name: contents(root / name).folders for name in here.folders}
    nested = [name for name in inside if inside[name] and contents(_unwrapped(root / name, inside[name])).folders]
    given = _given_splits(root, nested, where)
    folders = [_unwrapped(root / name, inside[name]) for name in given.values()]
    if not given:
        _refuse_splits(root, inside, where)
    parts = listed(root, [str(folder.relative_to(root)) for folder in folders] or [""], passed)
    notes = unused(here.files, root, "in no class folder")
    if given:
        splits, how = dict(zip(given, parts, strict=True)), "as given"
        if "val" not in splits:
            splits |= splits["train"].divided({"val": VAL_SHARE}, where)
            how = f"as given, but val {VAL_SHARE:.0%} of train by class, seed {SPLIT_SEED}"
        left = [name for name in here.folders if name not in given.values()]
        flat = [name for name in left if says_split(root / name) and name not in nested]
        notes += unused(flat, root, "no class folders in it")
        notes += unused([name for name in left if name not in flat], root, "the name says no split of these")
        for folder in sorted({*folders, *(root / name for name in given.values())}):
            notes += unused(contents(folder).files, folder, "in no class folder")
    else:
        splits = parts[0].divided({"val": VAL_SHARE, "test": TEST_SHARE}, where)
        how = f"by class, val {VAL_SHARE:.0%}, test {TEST_SHARE:.0%}, seed {SPLIT_SEED}"
        if taken := [name for name in here.folders if says_split(root / name)]:
            notes.append(f"taken for a class, not for a split: {some_names(taken)}")
    classes = {split: part.classes_there() for split, part in splits.items()}
    _require_classes(classes, where)
    for folder in folders or [root]:
        notes += _odd_classes(folder, classes["train"])
    return splits, how, notes + passed.notes()


def class_of(name: str) -> str:
    """Return the class that a folder's name stands for: composed characters, however the file system has them."""
    return unicodedata.normalize("NFC", printable(name))


def listed(root: Path, folders: Sequence[str], passed: PassedOver) -> list[Chosen]:
    """Return the images of each of some folders {root}/{folder}/{class}/, of one listing.

    Args:
        folders: in order; '' is `root` itself, whose hidden files are counted already.
        passed: gets what is passed over.
    """
    names: list[str] = []
    classes: list[str] = []
    ends = [0]
    for folder in folders:
        for name in contents(root / folder, passed if folder else None).folders:
            before = len(names)
            names += names_below(root, passed, f"{folder}/{name}" if folder else name)
            classes += [class_of(name)] * (len(names) - before)
        ends.append(len(names))
    files, targets = Listing(root, names), Targets("single_label", "", classes)
    return [Chosen(files, targets, np.arange(start, end)) for start, end in pairwise(ends)]


def _given_splits(root: Path, nested: Sequence[str], where: str) -> dict[str, str]:
    """Return split -> the folder that is named so, of those that have class folders; {} where there are no splits.

    Raises:
        InputError: two folders for one split, or none but train beside others that could be classes, too.
    """
    given = {split: path.name for split, path in named_splits([root / name for name in nested], where).items()}
    if [*given] == ["train"] and len(nested) > 1:
        train = given["train"]
        others = some_names(name for name in nested if name != train)
        raise InputError(
            f"{where}: {train} could be a split, or a class beside {others}. If it is the split, "
            f"--data-dir {root / train}, or move the others elsewhere; if it is a class, rename it."
        )
    return given


def _refuse_splits(root: Path, inside: Mapping[str, Sequence[str]], where: str) -> None:
    """Raise an InputError where folders that would be classes look like splits, or have splits in them.

    Args:
        inside: folder -> the folders in it.
    """
    paths = [root / name for name in inside]
    found = like_splits(paths)
    if not found and len(paths) > 1 and all(map(says_split, paths)):
        found = paths
    if found:
        shown = " and ".join(path.name for path in found)
        if not named_splits(found, where):
            raise InputError(
                f"{where}: {shown} look like splits, but none is train. Name one train; if they are classes, rename "
                "them."
            )
        raise InputError(
            f"{where}: {shown} look like splits, but have no class folders in them. Expected <split>/<class>/<image>; "
            "if they are classes, rename them; if a table says what the images are, name the table."
        )
    for path in paths:
        if splits := like_splits([path / name for name in inside[path.name]]):
            shown = " and ".join(f"{path.name}/{one.name}" for one in splits)
            raise InputError(
                f"{where}: {shown} look like splits. If all data are in there, --data-dir {path}; if {path.name} is a "
                f"class, put the splits above the classes: {splits[0].name}/{path.name}."
            )


def _require_classes(classes: Mapping[str, set[str]], where: str) -> None:
    """Raise an InputError where train has fewer than two classes, or another split has others."""
    if len(classes["train"]) < 2:
        there = ", ".join(sorted(classes["train"])) or "none"
        raise InputError(
            f"{where}: a classifier needs at least two class folders with files; found: {there}. "
            "Expected <folder>/<class>/<image> or <folder>/{train,val,test}/<class>/<image>."
        )
    for split, found in classes.items():
        if found != classes["train"]:
            odd = ", ".join(sorted(found ^ classes["train"]))
            raise InputError(f"{where}: {split} and train differ in classes: {odd}. Each split needs every class.")


def _odd_classes(folder: Path, classes: Container[str]) -> list[str]:
    """Return notes on class folders without a file, and on those that are one class."""
    names = contents(folder).folders
    notes = unused([name for name in names if class_of(name) not in classes], folder, "no file in it")
    counts = Counter(map(class_of, names))
    if twice := [name for name, count in counts.items() if count > 1]:
        notes.append(
            f"one class of several folders whose names look the same, in {printable(folder)}: {some_names(twice)}"
        )
    return notes


def _unwrapped(folder: Path, inside: Sequence[str]) -> Path:
    """Return the folder itself, or the one in it that has its name and is all there is, as archives of data sets have
    it: `seg_train/seg_train`."""
    return folder / folder.name if [*inside] == [folder.name] else folder
