"""What the checks look at and what they say: the examples of all splits in one row, and findings about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from src.configs.labels import LABEL_SEPARATOR
from src.configs.spec import TargetKind
from src.datamodules import DataModule
from src.datamodules.quarantine import Entry

MOST_LABELS = 20
"""Labels, the commonest, that are checked one by one where examples have several."""


@dataclass(frozen=True)
class Examples:
    """The examples of all splits, one after the other: train, val, test."""

    splits: tuple[str, ...]
    split: np.ndarray
    """int [examples], positions in `splits`."""
    ids: list[str]
    target: np.ndarray
    """int [examples], positions in `classes`; 0s and 1s [examples, labels]; floats where numbers are predicted."""
    classes: tuple[str, ...]
    kind: TargetKind

    @classmethod
    def of(cls, datamodule: DataModule) -> Examples:
        sizes = datamodule.sizes()
        return cls(
            tuple(sizes),
            np.repeat(np.arange(len(sizes)), list(sizes.values())),
            [name for split in sizes for name in datamodule.ids(split)],
            np.concatenate([datamodule.targets(split).numpy() for split in sizes]),
            datamodule.spec.classes,
            datamodule.spec.target.kind,
        )

    def __len__(self) -> int:
        return len(self.ids)

    def of_split(self, name: str) -> np.ndarray:
        """Return the positions of a split's examples."""
        return np.flatnonzero(self.split == self.splits.index(name))

    def split_of(self, position: int) -> str:
        return self.splits[self.split[position]]

    def name(self, position: int) -> str:
        """Return the id, with the split where the id does not begin with it."""
        name, split = self.ids[position], self.split_of(position)
        return name if name.startswith(f"{split}/") else f"{split} {name}"

    def label(self, position: int) -> str:
        match self.kind:
            case "regression":
                return f"{self.target[position]:.12g}"
            case "single_label":
                return self.classes[self.target[position]]
            case "multi_label":
                return LABEL_SEPARATOR.join(self.classes[k] for k in np.flatnonzero(self.target[position])) or "nothing"

    def of_label(self, number: int) -> Examples:
        """Return the same examples with two classes, without and with a label."""
        name = self.classes[number]
        target = self.target[:, number].astype(np.int64)
        return replace(self, target=target, classes=(f"no {name}", name), kind="single_label")

    def commonest_labels(self) -> list[int]:
        """Return the positions of the `MOST_LABELS` commonest labels that some training examples have and some not."""
        counts = self.target[self.of_split("train")].sum(0)
        there = [int(k) for k in counts.argsort(kind="stable")[::-1] if 0 < counts[k] < len(self.of_split("train"))]
        return there[:MOST_LABELS]

    def one_by_one(self) -> Iterator[Examples]:
        """Yield what has classes: these examples, or for several labels an example one label at a time."""
        if self.kind == "single_label":
            yield self
        elif self.kind == "multi_label":
            yield from map(self.of_label, self.commonest_labels())

    def entry(self, position: int, why: str) -> Entry:
        return Entry(self.ids[position], self.split_of(position), why)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or odd."""

    title: str
    wrong: bool = False
    """It makes a score wrong; anything else is for the user to weigh."""
    examples: tuple[str, ...] = ()
    """What it is about, the worst first."""
    leave_out: tuple[Entry, ...] = ()
    """What --fix puts on the list."""
    about: tuple[Entry, ...] = ()
    """Each example that is doubted, and why, where a finding is about single ones: for `explain.py`."""


@dataclass
class Report:
    """Everything found in one data set."""

    findings: list[Finding] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    """What was looked at, and how; and what could not be."""

    def worst_first(self) -> list[Finding]:
        return sorted(self.findings, key=lambda finding: not finding.wrong)

    def add(self, checked: str, findings: Iterable[Finding]) -> None:
        self.checked.append(checked)
        self.findings += findings


class Pair(NamedTuple):
    """An example that is much like one of a later split."""

    early: int
    late: int
    how: str
    """'the same', 'nearly the same', 'mirrored'."""


def across_splits(examples: Examples, pairs: Iterable[Pair], what: str) -> list[Finding]:
    """Return the finding that examples are in two splits; --fix leaves out the one of the earlier split.

    The evaluation stays whole: what test has too leaves train and val, and what val has leaves train.

    Args:
        pairs: positions of the two examples.
        what: 'images', 'texts', 'rows'.
    """
    once = {(pair.late, pair.early): pair for pair in sorted(pairs, reverse=True)}  # 'the same' wins over 'mirrored'
    of = [once[key] for key in sorted(once, key=lambda key: (-examples.split[key[0]], key))]  # those of test first
    if not of:
        return []
    late = Counter(examples.split_of(position) for position in {pair.late for pair in of})
    where = ", ".join(f"{count} of {split}" for split, count in late.items())
    shown = [f"{examples.name(p.late)} = {examples.name(p.early)} ({p.how}{_labels(examples, p)})" for p in of]
    reasons = {p.early: f"{p.how} as {examples.name(p.late)}" for p in reversed(of)}
    doubted = tuple(examples.entry(position, why) for position, why in sorted(reasons.items()))
    return [
        Finding(
            f"{what} that an earlier split has too, the same or nearly, which flatters the score: {where}",
            wrong=True,
            examples=tuple(shown),
            leave_out=doubted,
            about=doubted,
        )
    ]


def _labels(examples: Examples, pair: Pair) -> str:
    """Say so where the two have different labels."""
    if examples.kind == "regression" or np.array_equal(examples.target[pair.early], examples.target[pair.late]):
        return ""
    return f"; labelled {examples.label(pair.late)} and {examples.label(pair.early)}"
