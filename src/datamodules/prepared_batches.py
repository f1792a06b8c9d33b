"""Inputs to predict as batches of tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import Dataset

from src.datamodules.preparation import Prepared


class PreparedBatches(Dataset[dict[str, Any]]):
    """Batches of inputs to predict: their arrays as tensors, 'index', and 'error' {index: why} for what has none."""

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared

    def __len__(self) -> int:
        return len(self.prepared)

    def __getitem__(self, keys: list[int]) -> dict[str, Any]:
        index, values, errors = self.prepared.arrays(keys)
        tensors = {name: torch.from_numpy(array) for name, array in values.items()}
        return tensors | {"index": torch.tensor(index, dtype=torch.int64), "error": errors}
