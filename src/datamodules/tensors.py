"""Data that is in memory already, as tensors: whole batches are sliced, nothing is collated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from src.configs.spec import DataSpec
from src.datamodules.base import DataModule
from src.datamodules.sources import LoadedSplits


class Slices(Dataset[dict[str, Tensor]]):
    """Columns of equal length; a list of keys gives the rows of all columns and their 'index'."""

    def __init__(self, columns: Mapping[str, Tensor]) -> None:
        self.columns = columns
        self.size = len(next(iter(columns.values())))

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, keys: list[int]) -> dict[str, Tensor]:
        index = torch.tensor(keys) % self.size
        return {name: column[index] for name, column in self.columns.items()} | {"index": index}


class Tensors(DataModule):
    """Splits given as tensors.

    Args:
        splits: split -> column -> tensor with one row an example; needs 'target'.
        spec: of the data.
        ids: split -> names, by position; without it the row number.
    """

    in_memory = True

    def __init__(
        self,
        splits: Mapping[str, Mapping[str, Tensor]],
        spec: DataSpec,
        *,
        ids: Mapping[str, Sequence[str]] | None = None,
        batch_size: int = 32,
        num_workers: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        self.splits = {split: Slices(columns) for split, columns in splits.items()}
        self.names = ids or {split: [str(i) for i in range(data.size)] for split, data in self.splits.items()}
        self.loaded = LoadedSplits("tensors", "as given", self.names)
        self.spec = spec

    def setup(self, stage: str) -> None:
        """Nothing to do: all is here."""

    def dataset(self, split: str, *, train: bool) -> Dataset[dict[str, Any]]:
        return self.splits[split]

    def ids(self, split: str) -> Sequence[str]:
        return self.names[split]

    def targets(self, split: str) -> Tensor:
        return self.splits[split].columns["target"]
