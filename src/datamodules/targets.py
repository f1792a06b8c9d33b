"""Targets as tables have them: one class, several labels or a number, for images, texts and rows alike."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from src.configs.errors import InputError
from src.configs.labels import LABEL_SEPARATOR, is_number, numbers_first, split_labels
from src.configs.spec import Target, TargetKind
from src.configs.words import MISSING, respell

if TYPE_CHECKING:
    from torch import Tensor

YES, NO = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no"}
"""Cells of a column that stands for one label, in lower case."""
FEW_NUMBERS = 20
"""Distinct numbers up to which a column of numbers could as well be one of classes."""
TargetScale = str
"""'standard', 'log' or 'none', as `TablePrep.target`."""
DIVIDED: dict[TargetKind, str] = {"single_label": "by class", "multi_label": "by label", "regression": "at random"}
"""How examples without splits of their own are divided."""


@dataclass(frozen=True, eq=False)
class Targets:
    """The targets of some examples, by position.

    Args:
        kind: what they are.
        name: column, or columns, that they came from.
        values: a class each (single_label), a tuple of labels each (multi_label), or float64 [examples] (regression).
    """

    kind: TargetKind
    name: str
    values: Sequence[str] | Sequence[tuple[str, ...]] | np.ndarray

    def strata(self, rows: Sequence[int] | np.ndarray) -> list[str] | np.ndarray | None:
        """Return what splits should have equal shares of: classes, or 0s and 1s [rows, labels]; None for numbers, and
        where no row has a label."""
        if self.kind == "regression":
            return None
        found = [self.values[row] for row in rows]
        if self.kind == "single_label":
            return [str(name) for name in found]
        labels = sorted({name for names in found for name in names})
        return np.array([[name in names for name in labels] for names in found], np.int64) if labels else None

    def fit(
        self, rows: Mapping[str, Sequence[int] | np.ndarray], where: str, *, scale: TargetScale = "none"
    ) -> tuple[tuple[str, ...], Target]:
        """Return the classes or labels of the training rows (() for a number), and the spec's target.

        Args:
            rows: split -> rows.
            where: names the data in errors.
            scale: how a number is scaled: to mean 0 and deviation 1, so after the logarithm, or not.

        Raises:
            InputError: nothing to predict, or another split has a class that train has not.
        """
        if self.kind == "regression":
            return (), self._fit_scale(np.asarray(self.values)[np.asarray(rows["train"], int)], where, scale)
        of_split = {split: self._names(part) for split, part in rows.items()}
        classes = tuple(sorted(of_split["train"], key=numbers_first))
        least, what = (2, "class") if self.kind == "single_label" else (1, "label")
        if len(classes) < least:
            only = f"one class only, {classes[0]}" if classes else "no label at all"
            raise InputError(f"{where}: column {self.name} has {only} in train. There is nothing to predict.")
        for split, names in of_split.items():
            spelled = respell(names, classes)
            if strange := sorted(name for name in names if spelled[name] not in classes):
                raise InputError(
                    f"{where}: {split} has a {what} in column {self.name} that train has not: "
                    f"{', '.join(strange[:5])}. Add examples of it to train, or remove it."
                )
        return classes, Target(kind=self.kind, name=self.name)

    def _names(self, rows: Sequence[int] | np.ndarray) -> set[str]:
        found = (self.values[row] for row in rows)
        return {str(name) for name in found} if self.kind == "single_label" else {n for names in found for n in names}

    def _fit_scale(self, train: np.ndarray, where: str, scale: TargetScale) -> Target:
        if len(train) == 0 or train.min() == train.max():
            always = f"always {train[0]:.12g}" if len(train) else "empty"
            raise InputError(f"{where}: column {self.name} is {always} in train. There is nothing to predict.")
        values = np.log(train) if scale == "log" else train
        mean, std = (0.0, 1.0) if scale == "none" else (float(values.mean()), float(values.std()) or 1.0)
        return Target(kind="regression", name=self.name, log=scale == "log", mean=mean, std=std)

    def encode(self, rows: Sequence[int] | np.ndarray, classes: Sequence[str]) -> Tensor:
        """Return positions in `classes`, int64 [rows]; 0s and 1s, float32 [rows, labels]; or numbers, float64 [rows].

        float32 has seven digits: times in seconds since 1970 would be multiples of 128.
        """
        import torch  # prediction reads targets too, and must not need it

        if self.kind == "regression":
            return torch.from_numpy(np.asarray(self.values, np.float64)[np.asarray(rows)])
        place = {name: position for position, name in enumerate(classes)}
        number = {name: place[spelled] for name, spelled in respell(self._names(rows), classes).items()}
        if self.kind == "single_label":
            return torch.tensor([number[str(self.values[row])] for row in rows], dtype=torch.int64)
        encoded = torch.zeros(len(rows), len(classes))
        for position, row in enumerate(rows):
            encoded[position, [number[name] for name in self.values[row]]] = 1
        return encoded


def parse_targets(
    kind: TargetKind, columns: Mapping[str, Sequence[str]], where: str, *, rows: Sequence[str] | None = None
) -> Targets:
    """Return the targets of a table's rows.

    Args:
        kind: what is to be predicted.
        columns: name -> cells as text, '' for an empty one. Several labels are in one column, `billing;bug`, or
            each has a column of its own, which says yes or no (1, true, yes; 0, false, no).
        where: names the file in errors.
        rows: names of the rows in errors; by default their numbers, from 0.

    Raises:
        InputError: a cell that is no number or neither yes nor no; the column and the row are named.
    """
    name, cells = next(iter(columns.items()))

    def shown(bad: Sequence[int]) -> str:
        return ", ".join(str(row) if rows is None else rows[row] for row in bad[:5])

    if kind == "single_label":
        return Targets(kind, name, cells)
    if kind == "regression":
        if bad := [row for row, cell in enumerate(cells) if not is_number(cell)]:
            raise InputError(
                f"{where}: {len(bad)} values of column {name} are no finite numbers: "
                f"{', '.join(repr(cells[row]) for row in bad[:3])} (rows {shown(bad)}, counted from 0). "
                "Correct or remove them."
            )
        return Targets(kind, name, np.array([float(cell) for cell in cells]))
    if len(columns) == 1:
        return Targets(kind, name, [tuple(split_labels(cell)) for cell in cells])
    for label, column in columns.items():
        if bad := [row for row, cell in enumerate(column) if cell.strip().lower() not in YES | NO]:
            raise InputError(
                f"{where}: {len(bad)} cells of the label column {label} say neither yes nor no: "
                f"{', '.join(repr(column[row]) for row in bad[:3])} (rows {shown(bad)}, counted from 0). "
                "Write 1 or 0."
            )
    taken = [[cell.strip().lower() in YES for cell in column] for column in columns.values()]
    of_row = zip(*taken, strict=True)
    labels = [tuple(name for name, there in zip(columns, row, strict=True) if there) for row in of_row]
    return Targets(kind, ", ".join(columns), labels)


def require_kind(predicts: TargetKind, target_kind: TargetKind | None) -> None:
    """Raise an InputError where `--target-kind` asks for another kind than the experiment predicts."""
    if target_kind not in (None, predicts):
        raise InputError(
            f"--target-kind {target_kind}: this experiment predicts {predicts}. Name one that predicts {target_kind}."
        )


def missing_classes(targets: Targets, rows: Sequence[int] | np.ndarray) -> list[str]:
    """Return a note where classes of these rows are called NA, None or the like; else none."""
    if targets.kind != "single_label":
        return []
    counts = Counter(str(targets.values[row]) for row in rows)
    read = {name: count for name, count in counts.items() if name.lower() in MISSING and name}
    if not read:
        return []
    shown = ", ".join(f"{name!r} ({count} rows)" for name, count in sorted(read.items()))
    flag = f"--csv.missing {shlex.join(['', *sorted(read)])}"
    return [f"column {targets.name}: {shown} is read as a class; to read it as missing: {flag}"]


def other_reading(targets: Targets) -> str:
    """Return a note where the cells could be read as another kind of target too; '' where they could not."""
    name = f"column {targets.name}"
    if targets.kind == "multi_label":
        alone = all(len(names) <= 1 for names in targets.values)
        return f"{name}: no example has two labels; they could be classes, one an example" if alone else ""
    if targets.kind == "regression":
        values = np.unique(np.asarray(targets.values))
        if len(values) <= FEW_NUMBERS and (values == values.round()).all():
            return f"{name}: its {len(values)} distinct numbers are read as numbers; they could be classes"
        return ""
    words = sorted({str(value) for value in targets.values})
    parts = Counter(part for word in words for part in split_labels(word))
    joined = [word for word in words if LABEL_SEPARATOR in word]
    if joined and any(parts[part] > 1 for word in joined for part in split_labels(word)):
        return f"{name}: cells such as {joined[0]!r} are read as one class each; they could be several labels"
    if len(words) > FEW_NUMBERS and all(map(is_number, words)):
        return f"{name}: its {len(words)} distinct numbers are read as classes; they could be numbers to predict"
    return ""
