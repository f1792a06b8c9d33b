"""Networks in half precision throughout, bf16-true and 16-true, without losing what is to be predicted."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.plugins.precision import HalfPrecision
from torch import nn
from typing_extensions import override

from src.tasks import Task


class HalfNetwork(HalfPrecision):
    """Lightning's HalfPrecision, of the network alone: the target, the loss and the metrics stay as wide as they are.

    bfloat16 has 3 digits of a price or of a sum, and float16 ends at 65 504. Of a module of one's own all is converted
    but the batch's 'target'.
    """

    @override
    def convert_module(self, module: nn.Module) -> nn.Module:
        super().convert_module(module.model if isinstance(module, Task) else module)
        return module

    @override
    def convert_input(self, data: Any) -> Any:
        if not isinstance(data, dict) or "target" not in data:
            return super().convert_input(data)
        inputs = {name: value for name, value in data.items() if name != "target"}
        return {**super().convert_input(inputs), "target": data["target"]}
