"""Batches in which every class is equally likely, however rare."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from src.configs.errors import InputError
from src.datamodules.sampling.batches import Batches
from src.datamodules.sampling.like_length import WINDOW

AGAIN = 1_000_000
"""Epochs that the key of an example's next draw in the same epoch is ahead, so that it is augmented otherwise."""


class Balanced(Batches):
    """Yields training batches of keys, as many and as large as those of `Batches`.

    On each device, every run of as many draws as there are classes has each class once, in random order. The draws of a
    class, over all devices, go through its examples in random order, again and again: none is drawn twice before all
    have been drawn once, and those of a frequent class that an epoch leaves out are others in the next.

    Args:
        targets: the class of each example.
        batch_size: examples a batch and device.
        lengths: of each example; with them a batch's are alike, chosen among `WINDOW` batches' draws.
        seed, rank, world_size: as for `Batches`.

    Raises:
        InputError: the targets are not one class each.
    """

    def __init__(
        self,
        targets: np.ndarray,
        batch_size: int,
        *,
        lengths: np.ndarray | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if targets.ndim != 1 or not np.issubdtype(targets.dtype, np.integer):
            raise InputError("--imbalance sampler: balances classes, and these examples have not one class each.")
        super().__init__(len(targets), batch_size, train=True, seed=seed, rank=rank, world_size=world_size)
        self.members = [np.flatnonzero(targets == target) for target in np.unique(targets)]
        self.lengths = lengths

    def draws(self) -> np.ndarray:
        """Return the keys [position, device] of the epoch."""
        rng = np.random.default_rng([self.seed, self.epoch])
        share = min(self.size // self.world_size, len(self) * self.batch_size)
        rounds = math.ceil(share / len(self.members))
        deals = np.tile(np.arange(len(self.members)), (self.world_size, rounds, 1))
        classes = rng.permuted(deals, axis=2).reshape(self.world_size, -1)[:, :share].T
        keys = np.empty(classes.shape, dtype=np.int64)
        for number, members in enumerate(self.members):
            places = classes == number
            times = math.ceil(places.sum() / len(members))
            order = rng.permuted(np.tile(members, (times, 1)), axis=1)
            ahead = self.epoch + AGAIN * np.arange(times)[:, None]
            keys[places] = (ahead * self.size + order).ravel()[: places.sum()]
        return keys

    def whole(self) -> Iterator[list[int]]:
        batches = np.array_split(self.draws()[:, self.rank], len(self))
        if self.lengths is not None:
            batches = self.alike(batches, self.lengths)
        for batch in batches:
            yield batch.tolist()

    def alike(self, batches: list[np.ndarray], lengths: np.ndarray) -> list[np.ndarray]:
        """Return batches of like length of the same draws, in any order."""
        found: list[np.ndarray] = []
        for start in range(0, len(batches), WINDOW):
            window = np.concatenate(batches[start : start + WINDOW])
            window = window[np.argsort(-lengths[window % self.size], kind="stable")]
            found += np.array_split(window, len(batches[start : start + WINDOW]))
        rng = np.random.default_rng([self.seed, self.epoch, self.rank])
        return [found[i] for i in rng.permutation(len(found))]
