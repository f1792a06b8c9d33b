"""Rows of a table."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from src.tasks.inputs.input import Batch, Input


class TableInput(Input):
    """Rows as 'numbers' [batch, numeric features] and 'categories' [batch, categorical features]."""

    @override
    def tensors(self, batch: Batch, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        return batch["numbers"], batch["categories"]
