"""Inputs of a data set of the user's own."""

from __future__ import annotations

from typing import Any

import torch
from typing_extensions import override

from src.tasks.inputs.input import Batch, Input


class PlainInput(Input):
    """The batch's 'input' as it is: a tensor or a dict is one argument of the network, a tuple or list several."""

    @override
    def tensors(self, batch: Batch, dtype: torch.dtype) -> tuple[Any, ...]:
        value = batch["input"]
        return tuple(value) if isinstance(value, tuple | list) else (value,)
