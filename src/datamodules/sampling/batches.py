"""The order in which examples are seen: seeded, sharded over devices, the same whatever loads them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from src.configs.errors import InputError


class Batches(Sampler[list[int]]):
    """Yields whole batches of keys, for a `DataLoader(dataset, sampler=Batches(...), batch_size=None)`.

    A key is `epoch * size + index`: it carries the epoch to the worker that augments the example, so that every random
    draw can derive from (seed, epoch, example) and not from who draws it. `index = key % size`.

    Args:
        size: examples in the split.
        batch_size: examples a batch and device.
        train: new order each epoch; equal shares for all devices and full batches only (all of them if there is not one
            full batch). Otherwise in order and complete: shards may differ by one example, so that none counts twice,
            but not in their number of batches, which distributed processes have to agree on.
        seed: of the order.
        rank, world_size: this device among all.
    """

    def __init__(
        self, size: int, batch_size: int, *, train: bool, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} of {world_size}")
        if size < world_size:
            raise InputError(f"--devices: a split of {size} examples cannot be shared by {world_size} processes.")
        self.size, self.batch_size, self.train, self.seed = size, batch_size, train, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = 0
        self.done = 0
        """Batches of the next iteration to leave out: a run that goes on within an epoch has seen them."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls it before each."""
        self.epoch = epoch

    def __len__(self) -> int:
        least = self.size // self.world_size
        if self.train:
            return max(1, least // self.batch_size)
        most = math.ceil(self.size / self.world_size)
        return min(math.ceil(most / self.batch_size), least)

    def __iter__(self) -> Iterator[list[int]]:
        done, self.done = self.done, 0  # at the first batch: a loader with workers calls iter twice before it begins
        yield from itertools.islice(self.whole(), done, None)

    def whole(self) -> Iterator[list[int]]:
        """Yield all batches of the epoch."""
        order = np.arange(self.size)
        if self.train:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.size)
            order = order[: self.size // self.world_size * self.world_size]
        keys = self.epoch * self.size + order[self.rank :: self.world_size]
        if self.train:
            keys = keys[: len(self) * self.batch_size]
        for batch in np.array_split(keys, len(self)):
            yield batch.tolist()
