"""Texts."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from src.tasks.inputs.input import Batch, Input


class TextInput(Input):
    """Texts as 'tokens' [batch, length] and 'mask' [batch, length], True where a token is."""

    varies = True

    @override
    def tensors(self, batch: Batch, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        return batch["tokens"], batch["mask"]
