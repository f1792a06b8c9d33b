"""How examples without splits of their own are divided: by class, and with one seed for everybody."""

from __future__ import annotations

import warnings
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

from src.configs.errors import InputError

SPLIT_SEED = 0
VAL_SHARE = TEST_SHARE = 0.15
PARTS = 20
"""Into so many parts, at the most, examples are dealt before some of them become a split."""
FEW_VAL_SHARE = 0.25
"""Share of the few labels of `TextTable(labelled=...)` that validation gets."""


def divide(labels: Iterable[str], shares: Mapping[str, float], where: str) -> dict[str, np.ndarray]:
    """Divide positions by class: each split of `shares` gets its share of every class, at least one; train the rest.

    Args:
        labels: the class of each example.
        shares: split -> share.
        where: names the data in the error.

    Returns:
        split -> positions, one class after the other.

    Raises:
        InputError: a class has too few examples for every split.
    """
    by_class: dict[str, array[int]] = defaultdict(lambda: array("q"))
    for position, label in enumerate(labels):
        by_class[label].append(position)
    parts: dict[str, list[np.ndarray]] = {split: [] for split in ("train", *shares)}
    for number, (label, there) in enumerate(sorted(by_class.items())):
        if len(there) <= len(shares):
            raise InputError(
                f"{where}: class {label} has {len(there)} examples, too few for train and {', '.join(shares)}."
            )
        positions = np.array(there)
        order = np.random.default_rng([SPLIT_SEED, number]).permutation(len(positions))
        for split, share in shares.items():
            count = max(1, round(share * len(positions)))
            parts[split].append(positions[np.sort(order[:count])])
            order = order[count:]
        parts["train"].append(positions[np.sort(order)])
    return {split: np.concatenate([np.empty(0, np.int64), *found]) for split, found in parts.items()}


def divide_rows(
    size: int,
    shares: Mapping[str, float],
    where: str,
    *,
    labels: Sequence[str] | np.ndarray | None = None,
    groups: Sequence[str] | None = None,
) -> dict[str, list[int]]:
    """Divide positions at random, no group over two splits; by class as far as the groups allow it.

    Examples of a label that train would lack all go to train.

    Args:
        size: how many positions.
        shares: split -> share; train has the rest.
        where: names the data in the error.
        labels: the class of each example, or 0s and 1s [examples, labels], if there are any.
        groups: the group of each example.

    Raises:
        InputError: too few examples or groups for every split.
    """
    total = max(1 + len(shares), min(PARTS, len(set(groups)) if groups is not None else size))
    if labels is not None and not isinstance(labels, np.ndarray):
        total = max(1 + len(shares), min(total, max(Counter(labels).values())))
    parts = assign_folds(size, total, labels=labels, groups=groups, where=where)
    found: dict[str, list[int]] = {}
    for split, share in shares.items():
        count = max(1, round(share * total))
        found[split] = sorted(position for part in parts[:count] for position in part)
        parts = parts[count:]
    train = {position for part in parts for position in part}
    if isinstance(labels, np.ndarray) and groups is None:  # what val or test alone had could not be learned
        lacking = labels[:, ~labels[sorted(train)].any(0)]
        train.update(np.flatnonzero(lacking.any(1)).tolist())
        found = {split: [position for position in part if position not in train] for split, part in found.items()}
        if empty := [split for split, part in found.items() if not part]:
            raise InputError(f"{where}: too many labels that one example has: none is left for {empty[0]}.")
    return {"train": sorted(train), **found}


def assign_folds(
    size: int,
    count: int,
    *,
    labels: Sequence[str] | np.ndarray | None,
    groups: Sequence[str] | None,
    where: str,
    shuffle: bool = True,
) -> list[list[int]]:
    """Return `count` parts of the positions, of about equal size, no group in two of them, equal shares of each class.

    Several labels an example are stratified iteratively (Sechidis et al. 2011), unless groups decide.

    Args:
        labels: the class of each example; 0s and 1s [examples, labels]; or None.
        shuffle: else each part is a block of neighbours, within each class; several labels are shuffled always.

    Raises:
        InputError: fewer examples, or groups, than parts.
    """
    there = len(set(groups)) if groups is not None else size
    if there < count:
        what = "groups" if groups is not None else "examples"
        raise InputError(f"{where}: {there} {what} cannot be divided into {count} parts.")
    seed = {"shuffle": shuffle, "random_state": SPLIT_SEED if shuffle else None}
    if isinstance(labels, np.ndarray) and (groups is not None or not labels.any()):
        labels = None
    if isinstance(labels, np.ndarray):
        if labels.shape[1] == 1:  # of a single label, iterstrat wants to see who has it not, too
            labels = np.column_stack([labels, 1 - labels])
        # Always shuffled: it would draw without a seed otherwise.
        splitter = MultilabelStratifiedKFold(count, shuffle=True, random_state=SPLIT_SEED)
    elif groups is None:
        splitter = KFold(count, **seed) if labels is None else StratifiedKFold(count, **seed)
    else:
        splitter = GroupKFold(count, **seed) if labels is None else StratifiedGroupKFold(count, **seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # it is then in some parts only
        try:
            return [test.tolist() for _, test in splitter.split(np.zeros(size), labels, groups)]
        except ValueError as error:
            raise InputError(f"{where}: too few examples of each class for {count} parts ({error}).") from error


def blocks(labels: Sequence[str], *, val: int, test: int) -> dict[str, list[int]]:
    """Hold out neighbouring rows of a table of two classes that stand one after the other, balanced.

    Test has the last rows of the first class and the first of the second, so it is one block; validation has those
    beside it.
    """
    border = next(row for row, label in enumerate(labels) if label != labels[0])
    parts: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for row in range(len(labels)):
        distance = border - 1 - row if row < border else row - border
        split = "test" if distance < test // 2 else "val" if distance < (test + val) // 2 else "train"
        parts[split].append(row)
    return parts


def few(labels: Sequence[str], count: int, seed: int) -> list[int]:
    """Draw `count` positions of each class.

    Raises:
        InputError: a class has not that many.
    """
    names, sizes = np.array(labels), Counter(labels)
    for name, there in sorted(sizes.items()):
        if not 0 < count <= there:
            raise InputError(f"--labelled: {count} of class {name} wanted, {there} there.")
    rng = np.random.default_rng([seed, count])
    chosen: list[int] = []
    for name in sorted(sizes):
        chosen += rng.choice(np.flatnonzero(names == name), count, replace=False).tolist()
    return sorted(chosen)
