"""Some images of a folder or a table, with what is to be predicted of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from src.datamodules.images.listing import Listing
from src.datamodules.splits import divide, divide_rows
from src.datamodules.targets import Targets


@dataclass(frozen=True, eq=False)
class Chosen:
    """Some images. The splits share all but `rows`, so an image costs its name and a few bytes."""

    files: Listing
    """All images of the folder or table, in their order."""
    targets: Targets
    """Of `files`, by position."""
    rows: np.ndarray
    """int64 [images], positions in `files`."""

    def __len__(self) -> int:
        return len(self.rows)

    def of(self, rows: np.ndarray) -> Chosen:
        """Return other images of the same folder or table."""
        return replace(self, rows=rows)

    def subset(self, positions: Sequence[int] | np.ndarray) -> Chosen:
        """Return some of these images."""
        return self.of(self.rows[np.asarray(positions, np.int64)])

    def divided(self, shares: Mapping[str, float], where: str) -> dict[str, Chosen]:
        """Return these images divided by class, as `divide` does, by label, or at random for numbers."""
        labels = self.labels
        if isinstance(labels, list):
            parts = divide(labels, shares, where)
        else:
            parts = divide_rows(len(self), shares, where, labels=labels)
        return {split: self.subset(positions) for split, positions in parts.items()}

    @property
    def labels(self) -> list[str] | np.ndarray | None:
        """The class of each image; 0s and 1s [images, labels]; None where numbers are predicted."""
        return self.targets.strata(self.rows)

    def classes_there(self) -> set[str]:
        """Return the classes that have an image; none where there are no classes."""
        labels = self.labels
        return set(labels) if isinstance(labels, list) else set()
