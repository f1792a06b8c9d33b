"""What people name the splits of a data set, and which files and folders say so. Imports nothing heavy."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from src.configs.errors import InputError

SPLITS = ("train", "val", "test")
SPLIT_WORDS = {
    "train": ("train", "training", "trainval", "tr"),
    "val": ("val", "valid", "validation", "dev", "development", "va"),
    "test": ("test", "testing", "eval", "evaluation", "holdout", "te"),
}
"""Split -> the words that people name it with, in lower case."""
SPLIT_NAMES = {word: split for split, words in SPLIT_WORDS.items() for word in words}
ABBREVIATIONS = {"tr", "va", "te"}
"""Languages too, so names of files and folders mean splits by them only where all names do."""
FILLERS = {"set", "sets", "data", "dataset", "split", "splits", "folder", "image", "images", "img", "imgs"}
"""Words that say nothing: `train_set` and `test` are of one data set."""
GLUED = re.compile(rf"(?<![^\W\d_])({'|'.join(SPLIT_NAMES.keys() - ABBREVIATIONS)})({'|'.join(FILLERS)})(?![^\W\d_])")
"""Two such words in one, as in `testset`."""
SHARD = re.compile(r"-\d+-of-\d+(-[0-9a-f]+)?$")
"""How the hub ends the names of a split's files: `train-00000-of-00001-0a1b2c3d4e5f6789`."""


class Said(NamedTuple):
    """What a name says of splits."""

    split: str
    """'train', 'val' or 'test'; 'several' for `train_test`."""
    rest: tuple[str, ...]
    """The other words, which splits of one data set have in common."""


def named_splits(paths: Iterable[Path], where: str) -> dict[str, Path]:
    """Return split -> file or folder, of those whose names say a split; {} where none says train.

    A name says a split by one word of `SPLIT_WORDS`, in any case: `Train`, `dev`, `seg_train`, `train-images`,
    `testSet`, `val2017`, `train-00000-of-00001`. Splits of one data set differ in that word alone, so `train` and
    `old_test` do not belong together.

    Args:
        paths: in the order in which an error names them.
        where: names the data in the error.

    Raises:
        InputError: two names for one split, or two sets of splits.
    """
    sets = _sets(paths)
    trained = {rest: found for rest, found in sets.items() if "train" in found}
    if not trained:
        return {}
    bare: tuple[str, ...] = ()
    if bare not in trained and len(trained) > 1:
        both = " and ".join(found["train"][0].name for found in trained.values())
        raise InputError(f"{where}: {both} are both named train. Move one of the two sets elsewhere.")
    chosen = trained[bare] if bare in trained else next(iter(trained.values()))
    for split in SPLITS:
        if len(found := chosen.get(split, [])) > 1:
            join = "Join the parts into one file, or move" if SHARD.search(found[0].stem) else "Move"
            raise InputError(
                f"{where}: {found[0].name} and {found[1].name} are both {split}. {join} one of them elsewhere."
            )
    return {split: chosen[split][0] for split in SPLITS if split in chosen}


def like_splits(paths: Iterable[Path]) -> list[Path]:
    """Return the files or folders whose names say two or more splits of one data set, in order; [] where none do."""
    return next((sorted(chain(*found.values())) for found in _sets(paths).values() if len(found) > 1), [])


def says_split(path: Path) -> bool:
    """Return whether a name says a split, and not only by an abbreviation."""
    return _said(path, abbreviations=False) is not None


def _sets(paths: Iterable[Path]) -> dict[tuple[str, ...], dict[str, list[Path]]]:
    """Return the words that names have in common -> what they say -> the names."""
    there = list(paths)
    abbreviations = all(_said(path, abbreviations=True) for path in there)
    sets: dict[tuple[str, ...], dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in there:
        if said := _said(path, abbreviations=abbreviations):
            sets[said.rest][said.split].append(path)
    return sets


def _said(path: Path, *, abbreviations: bool) -> Said | None:
    """Return what a name says of splits, None where it says nothing."""
    name = SHARD.sub("", path.name if path.is_dir() else path.stem)
    parts = re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower()  # trainSet
    words = re.findall(r"[^\W\d_]+", GLUED.sub(r"\1 \2", parts))
    found = [word for word in words if word in SPLIT_NAMES and (abbreviations or word not in ABBREVIATIONS)]
    if not found:
        return None
    splits = {SPLIT_NAMES[word] for word in found}
    split = splits.pop() if len(splits) == 1 else "several"
    return Said(split, tuple(word for word in words if word not in found and word not in FILLERS))
