"""Texts as batches of token ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from src.datamodules.texts.tokens import Encoded, padded


class Tokens(Dataset[dict[str, Any]]):
    """Batches of token ids: {'tokens': int64 [batch, longest], 'mask': bool, True where a token is, 'target', 'index'}.

    Args:
        encoded: token ids of all texts.
        rows: position of each example in `encoded`.
        targets: class of each example.
        pad_id: fills up the shorter texts of a batch.
        pad_to: length of every batch; None pads to the longest of each.
    """

    def __init__(
        self, encoded: Encoded, rows: np.ndarray, targets: Tensor, *, pad_id: int, pad_to: int | None = None
    ) -> None:
        self.encoded, self.rows, self.targets, self.pad_id, self.pad_to = encoded, rows, targets, pad_id, pad_to

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, keys: list[int]) -> dict[str, Any]:
        index = np.asarray(keys, np.int64) % len(self.rows)
        found = padded(self.encoded, self.rows[index], self.pad_id, self.pad_to)
        where = torch.from_numpy(index)
        batch = {name: torch.from_numpy(values) for name, values in found.items()}
        return batch | {"target": self.targets[where], "index": where}
