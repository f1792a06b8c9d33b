"""The linear layer on top of features, trained by steps or solved."""

from __future__ import annotations

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from src.configs.errors import InputError
from src.models.regressions import label_regressions, logistic_regression, ridge_regression

FEW = 10**8
"""Products of a pass over the features below which threads cost more, waiting for one another, than they gain."""


def require_share(dropout: float) -> None:
    """Raise an InputError where `dropout` is no share of what is dropped."""
    if not 0 <= dropout < 1:
        raise InputError(f"--dropout {dropout}: from 0 to below 1.")


class Head(nn.Module):
    """Dropout and a linear layer, computed in the weights' own precision: bfloat16 logits would tie.

    Args:
        num_features: inputs.
        num_outputs: classes, or numbers that are predicted.
        dropout: share of the inputs dropped in training.

    Raises:
        InputError: no such share.
    """

    def __init__(self, num_features: int, num_outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        require_share(dropout)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(num_features, num_outputs)

    def forward(self, features: Tensor) -> Tensor:
        """[batch, num_features] -> [batch, num_outputs]."""
        with torch.autocast(features.device.type, enabled=False):
            return self.linear(self.dropout(features.to(self.linear.weight.dtype)))

    @property
    def bias(self) -> Tensor:
        """What is added to each output [num_outputs]."""
        return self.linear.bias

    def fit(self, features: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> str:
        """Solve for targets of any kind and return a line for the summary: see `solve` and `solve_labels`."""
        shape = list(features.shape)
        if targets.ndim == 2:
            l2 = self.solve_labels(features, targets)
        else:
            l2 = self.solve(features, targets, class_weights)
            if targets.is_floating_point():
                return f"solved in closed form on {shape}, L2 {l2:g} by leave-one-out"
        return f"solved on cached features {shape}, L2 {l2:g} chosen by cross-validation"

    @torch.no_grad()
    def solve(self, features: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> float:
        """Set the weights to those of multinomial logistic regression on fixed features; of ridge regression, with all
        outputs alike, where the targets are no class numbers but floats.

        The L2 strength is chosen by cross-validation: for a classifier the strongest whose Brier score is within one
        standard error of the least, for a regression that with the least leave-one-out error.

        Args:
            features: of the training examples [examples, num_features], on any device.
            targets: [examples], on any device.
            class_weights: [classes], of the examples of each in all cross-entropies; on any device.

        Returns:
            That strength.

        Raises:
            InputError: a feature is NaN or infinite.
        """
        standard, scale = _standardised(features)
        with self._threads(features):
            if targets.is_floating_point():
                l2, weight, bias = ridge_regression(standard, targets.cpu().numpy())
            else:
                weights = torch.ones(self.linear.out_features) if class_weights is None else class_weights.float().cpu()
                l2, weight, bias = logistic_regression(standard, targets.cpu().numpy(), weights.numpy())
        self._set(weight, bias, scale)
        return l2

    @torch.no_grad()
    def solve_labels(self, features: Tensor, targets: Tensor) -> float:
        """Set the weights of each output to those of a logistic regression of one label on fixed features.

        Args:
            features: of the training examples [examples, num_features], on any device.
            targets: [examples, labels], on any device.

        Returns:
            The L2 strength, one for all labels: the strongest whose Brier score in cross-validation is within one
            standard error of the least.

        Raises:
            InputError: a feature is NaN or infinite.
        """
        standard, scale = _standardised(features)
        with self._threads(features):
            l2, weight, bias = label_regressions(standard, (targets > 0.5).cpu().numpy())
        self._set(weight, bias, scale)
        return l2

    def _threads(self, features: Tensor) -> threadpool_limits:
        """Keep the libraries' threads out of a small problem; on a busy machine it would take ten times as long."""
        return threadpool_limits(1 if len(features) * self.linear.weight.numel() < FEW else None)

    def _set(self, weight: np.ndarray, bias: np.ndarray, scale: tuple[Tensor, Tensor]) -> None:
        """Copy a solution for features that were standardised by their mean and deviation."""
        mean, std = scale
        of_features = torch.from_numpy(weight).double() / std
        self.linear.weight.copy_(of_features)
        self.linear.bias.copy_(torch.from_numpy(bias) - of_features @ mean.double())


def require_finite(features: Tensor) -> None:
    """Raise an InputError where a feature is NaN or infinite."""
    if not features.isfinite().all():
        raise InputError("the features that the head is solved on are not all finite: try --precision 32-true.")


def _standardised(features: Tensor) -> tuple[np.ndarray, tuple[Tensor, Tensor]]:
    """Return the features standardised, and their mean and deviation, each [num_features].

    Raises:
        InputError: a feature is NaN or infinite.
    """
    features = features.float().cpu()
    require_finite(features)
    mean, std = features.mean(0), features.std(0).clamp_min(1e-6)
    return ((features - mean) / std).numpy(), (mean, std)
