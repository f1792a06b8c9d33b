"""The linear classifier on top of features, trained by steps or solved."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

L2_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Tried by `Head.solve`; per example, on standardised features."""


class Head(nn.Module):
    """Dropout and a linear layer, computed in the weights' own precision: bfloat16 logits would tie.

    Args:
        num_features: inputs.
        num_classes: outputs.
        dropout: share of the inputs dropped in training.
    """

    def __init__(self, num_features: int, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(num_features, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """[batch, num_features] -> logits [batch, num_classes]."""
        with torch.autocast(features.device.type, enabled=False):
            return self.linear(self.dropout(features.to(self.linear.weight.dtype)))

    @torch.no_grad()
    def solve(self, train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor]) -> float:
        """Set the weights to those of multinomial logistic regression on fixed features.

        Args:
            train, val: features [examples, num_features] and targets [examples]. The L2 strength with the least
                cross-entropy on `val` is taken.

        Returns:
            That strength.
        """
        features, targets = train[0].float(), train[1]
        mean, std = features.mean(0), features.std(0).clamp_min(1e-6)
        best = (torch.inf, 0.0)
        for l2 in L2_STRENGTHS:
            weight, bias = logistic_regression((features - mean) / std, targets, self.linear.out_features, l2)
            weight = weight / std
            bias = bias - weight @ mean
            loss = F.cross_entropy(val[0].float() @ weight.T + bias, val[1]).item()
            if loss < best[0]:
                best = (loss, l2)
                self.linear.weight.copy_(weight)
                self.linear.bias.copy_(bias)
        return best[1]


def logistic_regression(features: Tensor, targets: Tensor, num_classes: int, l2: float) -> tuple[Tensor, Tensor]:
    """Minimise mean cross-entropy + l2/2 * |weight|^2 by L-BFGS.

    Returns:
        weight [num_classes, num_features] and bias [num_classes].
    """
    weight = torch.zeros(num_classes, features.shape[1], device=features.device, requires_grad=True)
    bias = torch.zeros(num_classes, device=features.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, tolerance_change=1e-7, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        with torch.enable_grad():
            loss = F.cross_entropy(features @ weight.T + bias, targets) + l2 / 2 * weight.square().sum()
            optimizer.zero_grad()
            loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach(), bias.detach()
