"""How examples without splits of their own are divided: by class, and with one seed for everybody."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from src.experiment import InputError

SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""What users call their splits -> what they are called here."""
SPLIT_SEED = 0
VAL_SHARE = TEST_SHARE = 0.15
FEW_VAL_SHARE = 0.25
"""Share of the few labels of `TextTable(labelled=...)` that validation gets."""


def divide(labels: Sequence[str], shares: Mapping[str, float], where: str) -> dict[str, list[int]]:
    """Divide positions by class: each split of `shares` gets its share of every class, at least one; train the rest.

    Args:
        labels: the class of each example.
        shares: split -> share.
        where: names the data in the error.

    Raises:
        InputError: a class has too few examples for every split.
    """
    by_class: dict[str, list[int]] = defaultdict(list)
    for position, label in enumerate(labels):
        by_class[label].append(position)
    parts: dict[str, list[int]] = {split: [] for split in ("train", *shares)}
    for number, (label, positions) in enumerate(sorted(by_class.items())):
        if len(positions) <= len(shares):
            raise InputError(
                f"{where}: class {label} has {len(positions)} examples, too few for train and {', '.join(shares)}."
            )
        order = np.random.default_rng([SPLIT_SEED, number]).permutation(len(positions)).tolist()
        for split, share in shares.items():
            count = max(1, round(share * len(positions)))
            parts[split] += [positions[i] for i in sorted(order[:count])]
            order = order[count:]
        parts["train"] += [positions[i] for i in sorted(order)]
    return parts


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


def is_number(label: str) -> bool:
    """Return whether a label is a number; nan and inf, which have no place in an order, are words."""
    try:
        return math.isfinite(float(label))
    except ValueError:
        return False
