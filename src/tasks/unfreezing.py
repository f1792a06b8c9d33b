"""Gradual unfreezing: the head alone in the first epoch, and one more layer group in each further one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

ByDepth = Mapping[int, Sequence[nn.Parameter]]
"""Layer groups that come after -> trained parameters."""


def by_depth(layer_groups: Sequence[Sequence[nn.Parameter]]) -> ByDepth:
    """Return the trained parameters of layer groups, which come from the input to the head."""
    return {depth: [p for p in group if p.requires_grad] for depth, group in enumerate(reversed(layer_groups))}


def unfreeze(network: nn.Module, parameters: ByDepth, epoch: int, *, spare_gradients: bool) -> None:
    """Set up an epoch: layer groups whose turn has not come stay in evaluation mode, as their norms' statistics do.

    Args:
        network: what is trained.
        parameters: its own, of `by_depth` before any was frozen.
        epoch: from 0.
        spare_gradients: compute none for these groups. Else their rate has to be 0.
    """
    waiting = {p for depth, group in parameters.items() if depth > epoch for p in group}
    if spare_gradients:
        for group in parameters.values():
            for parameter in group:
                parameter.requires_grad_(parameter not in waiting)
    network.train()
    for module in network.modules():
        trained = [p for p in module.parameters() if p.requires_grad or p in waiting]
        if trained and waiting.issuperset(trained):
            module.eval()
