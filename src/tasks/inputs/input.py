"""What every input offers a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

Batch = Mapping[str, Any]
"""Name -> tensor [batch, ...]; at least 'target', and for our own data modules 'index'."""


class Input:
    """What goes into a network. A subclass is one kind of input. It knows neither the network nor what is predicted."""

    resizes: bool = False
    """Whether the inputs grow during the training."""
    varies: bool = False
    """Whether the inputs of nearly every batch have another size."""

    def tensors(self, batch: Batch, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Return what the network takes of a batch; floats have the network's own `dtype`."""
        raise NotImplementedError

    def adapt(self, network: nn.Module) -> None:
        """Change the memory layout of the network, in place, so that it suits the input."""

    def augmented(self, batch: Batch, *, epoch: int, epochs: int) -> Batch:
        """Return a training batch as it is trained on; all random draws derive from the step's seed.

        Args:
            epoch: the training's, from 0.
            epochs: of the whole training.
        """
        return batch

    def views(self, batch: Batch) -> list[Batch]:
        """Return the views of a batch whose predictions are averaged in validation, test and prediction."""
        return [batch]

    def require_mixable(self, *, mixes_targets: bool, imbalance: str = "none") -> None:
        """Raise an InputError where examples would be blended and their targets cannot be."""

    def require_raw_batches(self) -> None:
        """Raise an InputError where something is asked for that a training on cached features cannot give."""

    def try_out(self, network: nn.Module, *, epochs: int, dtype: torch.dtype) -> None:
        """Raise an InputError where the network cannot take the inputs of a training of so many epochs."""
