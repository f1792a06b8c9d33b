"""One input as a network takes it, in parts that can be hidden."""

from __future__ import annotations

import numpy as np
from torch import Tensor

AT_ONCE = 64
"""Inputs that the network takes at once, unless they are small."""


class Example:
    """An input in parts: tiles of an image, words of a text, or columns of a row. A subclass is one kind of input.

    What hides a part is another value that could stand there: blurred pixels, the unknown token, cells of other rows.

    Args:
        id: as in the predictions.
        names: of the parts.
        tensors: what the network takes, each [1, ...].
        expected: the answer that it came with, '' where there is none.
    """

    backgrounds: int = 1
    """Values that a hidden part is drawn from; the score of a mask is the mean over them."""
    at_once: int = AT_ONCE
    """Inputs of the kind that the network takes at once."""

    def __init__(self, id: str, names: tuple[str, ...], tensors: tuple[Tensor, ...], expected: str = "") -> None:
        self.id, self.names, self.tensors, self.expected = id, names, tensors, expected

    def __len__(self) -> int:
        return len(self.names)

    def hidden(self, kept: np.ndarray) -> tuple[Tensor, ...]:
        """Return the input with parts of it hidden.

        Args:
            kept: bool [masks, parts], True where a part stays.

        Returns:
            Tensors as the network takes them, each [masks * backgrounds, ...]; those of one mask stand together.
        """
        raise NotImplementedError

    def changed(self) -> Example:
        """Return the same input after a change that should not matter; always the same one."""
        raise NotImplementedError

    def of_parts(self, values: np.ndarray) -> np.ndarray:
        """Return the value of each part, float64 [parts], of values that a method may give more finely."""
        return values.astype(np.float64)
