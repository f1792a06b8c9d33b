"""What the rows of text tables are to be predicted as: read from their label column, fitted to the training rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from src.configs.spec import Target, TargetKind
from src.datamodules.splits import divide, divide_rows
from src.datamodules.tables.table_targets import plain_numbers
from src.datamodules.targets import Targets, missing_classes, other_reading, parse_targets
from src.datamodules.texts.text_parts import Part

HOW: dict[TargetKind, str] = {"single_label": "by class", "multi_label": "by label", "regression": "at random"}
"""How the rows of one file are divided."""


def read_targets(kind: TargetKind, part: Part) -> Targets:
    """Return the targets of a part, by position; for a number, errors name the rows of the file."""
    rows = [str(row) for row in part.rows] if kind == "regression" else None
    return _parsed(kind, part.labels, part, str(part.file.path), rows)


def _parsed(
    kind: TargetKind, cells: Sequence[str], train: Part, where: str, rows: Sequence[str] | None = None
) -> Targets:
    """Return the targets of some cells. Numbers are read as the training rows write them."""
    if kind == "regression":
        cells = plain_numbers(cells, train.file.csv, like=train.labels)
    return parse_targets(kind, {train.file.label_column: cells}, where, rows=rows)


def divide_part(kind: TargetKind, whole: Part, shares: Mapping[str, float]) -> dict[str, Part]:
    """Return train and the splits of `shares`, with equal shares of each class or label."""
    where = str(whole.file.path)
    positions: Mapping[str, Sequence[int] | np.ndarray]
    if kind == "single_label":
        positions = divide(whole.labels, shares, where)
    else:
        labels = read_targets(kind, whole).strata(range(len(whole)))
        positions = divide_rows(len(whole), shares, where, labels=labels)
    return {split: whole.subset(np.sort(chosen)) for split, chosen in positions.items()}


def fit_targets(
    kind: TargetKind, parts: Mapping[str, Part], where: str
) -> tuple[tuple[str, ...], Target, dict[str, Tensor]]:
    """Return the classes or labels of the training rows, the spec's target, and each split's targets by position.

    Raises:
        InputError: nothing to predict, or another split has a class that train has not.
    """
    ends = np.cumsum([len(part) for part in parts.values()]).tolist()
    rows = {split: range(end - len(part), end) for (split, part), end in zip(parts.items(), ends, strict=True)}
    cells = [cell for part in parts.values() for cell in part.labels]
    targets = _parsed(kind, cells, parts["train"], where)
    classes, target = targets.fit(rows, where, scale="standard")
    return classes, target, {split: targets.encode(positions, classes) for split, positions in rows.items()}


def target_notes(kind: TargetKind, parts: Mapping[str, Part], where: str, *, confirmed: bool) -> list[str]:
    """Return notes where the label column could be read otherwise.

    Args:
        confirmed: whether the user has said what kind of target it is.
    """
    cells = [cell for part in parts.values() for cell in part.labels]
    notes = missing_classes(_parsed(kind, cells, parts["train"], where), range(len(cells)))
    if not confirmed and (note := other_reading(_parsed(kind, sorted({*cells}), parts["train"], where))):
        notes.append(f"{note} (--target-kind {kind} confirms; another experiment of the file reads it otherwise)")
    return notes


def fingerprint_of(parts: Mapping[str, Part], classes: Sequence[str], targets: Mapping[str, Tensor]) -> str:
    """Return 16 hex digits that stand for the texts and their targets, however they are split."""
    pairs: list[np.ndarray] = []
    for split, part in parts.items():
        values = targets[split].numpy()
        bits = values.view(np.uint64) if values.dtype == np.float64 else values  # of a number
        pairs.append(np.column_stack([part.digests, bits.astype(np.uint64)]))
    digest = hashlib.sha256(repr([*classes]).encode())
    digest.update(np.unique(np.concatenate(pairs), axis=0).tobytes())
    return digest.hexdigest()[:16]
