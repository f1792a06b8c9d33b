"""The rows of a table that make up a split: those that can be used, and are in no later split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from src.configs.errors import InputError
from src.datamodules.split_names import SPLITS
from src.datamodules.texts.text_files import Scan, TextFile

UNUSABLE_LIMIT = 0.05
"""Greatest share of rows without text or label before the run stops."""


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of a file, in their order."""

    file: TextFile
    scan: Scan
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def subset(self, positions: Sequence[int] | np.ndarray) -> Part:
        return Part(self.file, self.scan, self.rows[positions])

    @property
    def ids(self) -> list[str]:
        ids = self.scan.ids
        return [str(row) if ids is None else ids[row] for row in self.rows]

    @property
    def labels(self) -> list[str]:
        return [self.scan.labels[row] for row in self.rows]

    @property
    def digests(self) -> np.ndarray:
        return self.scan.digests[self.rows]

    def texts(self) -> Iterator[str]:
        """Read the file again and yield the texts, in the file's order."""
        wanted = np.zeros(len(self.scan.labels), bool)
        wanted[self.rows] = True
        return (document.text for document, keep in zip(self.file, wanted, strict=True) if keep)


def usable(file: TextFile, scan: Scan, notes: list[str], *, needs_label: bool = True) -> Part:
    """Return the rows with a text and, where they need one, a label; how many are left out is added to `notes`.

    Raises:
        InputError: there are none, or too many are unusable.
    """
    empty = np.flatnonzero(scan.digests == 0)
    unlabelled = np.flatnonzero([needs_label and label == "" for label in scan.labels])
    bad, count = np.union1d(empty, unlabelled), len(scan.labels)
    what = f"{len(empty)} without text ({file.text_column}), {len(unlabelled)} without label ({file.label_column})"
    if len(bad) > UNUSABLE_LIMIT * count or not count:
        raise InputError(
            f"{file.path}: {len(bad)} of {count} rows cannot be used: {what}; first, counted from 0: "
            f"{', '.join(map(str, bad[:5])) or 'none there'}. Fill or remove them."
        )
    if len(bad):
        notes.append(f"{len(bad)} of {count} rows of {file.path} are left out: {what}")
    return Part(file, scan, np.setdiff1d(np.arange(count), bad))


def without_repeated(parts: Mapping[str, Part], notes: list[str]) -> dict[str, Part]:
    """Return the splits without the texts that a later one has too; how many are removed is added to `notes`.

    Raises:
        InputError: nothing is left of a split.
    """
    kept: dict[str, Part] = {}
    later = np.empty(0, np.uint64)
    for split in reversed([split for split in SPLITS if split in parts]):
        part = parts[split]
        repeated = np.isin(part.digests, later)
        others = "val or test" if split == "train" else "test"
        if repeated.all():
            raise InputError(f"{part.file.path}: nothing is left of {split}, since all its texts are in {others} too.")
        if count := int(repeated.sum()):
            notes.append(f"{count} texts of {split} are in {others} too: removed from {split}")
        kept[split] = part.subset(~repeated)
        later = np.union1d(later, part.digests)
    return {split: kept[split] for split in SPLITS if split in kept}
