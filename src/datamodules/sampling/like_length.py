"""Batches of examples of like length, so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from src.datamodules.sampling.batches import Batches

WINDOW = 16
"""Batches of like length among which examples are mixed: more are more random, fewer have less padding."""


class LikeLength(Batches):
    """Yields batches of keys, as `Batches`, of examples that are next to one another by length.

    By length, examples fall into windows of `WINDOW` batches. Each epoch deals a window's examples anew to its batches
    (ties of length fall to either side of a border at random) and shuffles all batches. There are as many batches in
    each epoch, of the same sizes; processes get equal shares of each, so they wait little for one another.

    Args:
        lengths: of each example.
        batch_size: examples a batch and device.
        max_tokens: instead of `batch_size`: as many examples as stay within so many tokens, padding included.
        train: new order each epoch, up to `world_size - 1` examples left out. Otherwise complete, the longest first.
        seed, rank, world_size: as for `Batches`.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        batch_size: int,
        *,
        train: bool,
        max_tokens: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(len(lengths), batch_size, train=train, seed=seed, rank=rank, world_size=world_size)
        self.lengths = np.asarray(lengths)
        self.windows: list[list[int]] = []
        """Sizes of each window's batches, over all devices; the longest examples are in the first."""
        longest = np.sort(self.lengths)[::-1]
        start = 0
        while start < self.size:
            each = batch_size if max_tokens is None else max(1, max_tokens // max(1, int(longest[start])))
            count = min(WINDOW * each * world_size, self.size - start)
            sizes = [each * world_size] * (count // (each * world_size))
            if rest := count - sum(sizes):
                if rest < world_size:  # too few for every device to have one
                    last = sizes.pop() if sizes else self.windows[-1].pop()
                    rest += last
                sizes.append(rest)
            self.windows.append(sizes)
            start += count

    def __len__(self) -> int:
        return sum(map(len, self.windows))

    def whole(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(self.size) if self.train else np.arange(self.size)
        order = order[np.argsort(-self.lengths[order], kind="stable")]
        batches: list[np.ndarray] = []
        for sizes in self.windows:
            window, order = order[: sum(sizes)], order[sum(sizes) :]
            dealt = rng.permutation(window) if self.train else window
            batches += np.split(dealt, np.cumsum(sizes)[:-1])
        for i in rng.permutation(len(batches)) if self.train else range(len(batches)):
            batch = batches[i]
            if self.train:
                batch = batch[: len(batch) // self.world_size * self.world_size]
            yield (self.epoch * self.size + batch[self.rank :: self.world_size]).tolist()
