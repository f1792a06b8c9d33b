"""Rows of a table to predict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset


class Inputs(Dataset[dict[str, Any]]):
    """Rows to predict: those that cannot be used are 'error', {row: why}, and in no batch."""

    def __init__(self, numbers: np.ndarray, categories: np.ndarray, errors: Mapping[int, str]) -> None:
        self.numbers, self.categories = torch.from_numpy(numbers), torch.from_numpy(categories)
        self.errors = errors

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, keys: list[int]) -> dict[str, Any]:
        index = torch.tensor([key for key in keys if key not in self.errors], dtype=torch.long)
        return {
            "numbers": self.numbers[index],
            "categories": self.categories[index],
            "index": index,
            "error": {key: self.errors[key] for key in keys if key in self.errors},
        }
