"""One linear layer: linear, logistic and softmax regression, by the loss that trains it."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.configs.spec import DataSpec
from src.models.heads import Head
from src.models.state_dicts import load_file


class Linear(nn.Module):
    """A weight for each number and for each value of each category.

    Args:
        spec: how many numbers and categories a row of a table has, or the shape of an example.
        num_outputs: classes, or numbers that are predicted.
        weights: 'none' (zeros: the loss has one minimum, and starting there needs no luck), or a state dict's file.

    L2 and L1 are those of the optimiser.
    """

    def __init__(self, spec: DataSpec, num_outputs: int, *, weights: str = "none") -> None:
        super().__init__()
        self.categories = spec.categories
        numbers = spec.numbers if spec.numbers or spec.categories else math.prod(spec.input_shape)
        self.head = Head(numbers + sum(spec.categories), num_outputs)
        nn.init.zeros_(self.head.linear.weight)
        nn.init.zeros_(self.head.linear.bias)
        self.weights_source = "none (zeros)" if weights == "none" else load_file(self, Path(weights), prefix="model.")

    def features(self, numbers: Tensor, categories: Tensor | None = None) -> Tensor:
        """Return the row that the weights meet: numbers [batch, ...] flattened, categories [batch, c] as 0s and 1s."""
        parts = [numbers.flatten(1)]
        if categories is not None:
            parts += [F.one_hot(categories[:, i], size) for i, size in enumerate(self.categories)]
        return torch.cat([part.to(numbers.dtype) for part in parts], dim=1)

    def forward(self, numbers: Tensor, categories: Tensor | None = None) -> Tensor:
        """[batch, ...] and maybe [batch, c] -> [batch, num_outputs]."""
        if torch.compiler.is_exporting() and categories is not None:
            return self._looked_up(numbers.flatten(1), categories)
        return self.head(self.features(numbers, categories))

    def _looked_up(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Return the same for a row whose weights are looked up: an exported graph has no 0s and 1s to multiply."""
        linear, count = self.head.linear, numbers.shape[1]
        first = torch.tensor([count, *self.categories[:-1]]).cumsum(0)
        return F.linear(numbers, linear.weight[:, :count], linear.bias) + linear.weight.T[first + categories].sum(1)

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return the parameters, a single group."""
        return [list(self.parameters())]
