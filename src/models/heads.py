"""The linear layer on top of features, trained by steps or solved."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.configs.errors import InputError

L2_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Tried for a classifier by `Head.solve`; per example, on standardised features."""
RIDGE_STRENGTHS = (0.0, *L2_STRENGTHS)
"""The same for a regression."""


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

    @torch.no_grad()
    def solve(
        self, train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], class_weights: Tensor | None = None
    ) -> float:
        """Set the weights to those of multinomial logistic regression on fixed features; of ridge regression, with all
        outputs alike, where the targets are no class numbers but floats.

        Args:
            train, val: features [examples, num_features] and targets [examples]. The L2 strength with the least
                cross-entropy on `val` is taken; for a regression that with the least leave-one-out error on `train`.
            class_weights: [classes], of the examples of each in either cross-entropy.

        Returns:
            That strength.
        """
        features, targets = train[0].float(), train[1]
        regression, outputs = targets.is_floating_point(), self.linear.out_features
        mean, std = features.mean(0), features.std(0).clamp_min(1e-6)
        best = (torch.inf, 0.0)
        for l2 in RIDGE_STRENGTHS if regression else L2_STRENGTHS:
            standard = (features - mean) / std
            if regression:
                weight, bias = (part.expand(outputs, -1) for part in ridge_regression(standard, targets, l2))
                bias = bias[:, 0]
            else:
                weight, bias = logistic_regression(standard, targets, outputs, l2, class_weights)
            weight = weight / std
            bias = bias - weight @ mean
            if regression:
                loss = leave_one_out_error(standard, targets, l2)
            else:
                loss = F.cross_entropy(val[0].float() @ weight.T + bias, val[1], class_weights).item()
            if loss < best[0]:
                best = (loss, l2)
                self.linear.weight.copy_(weight)
                self.linear.bias.copy_(bias)
        return best[1]

    @torch.no_grad()
    def solve_labels(self, train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor]) -> float:
        """Set the weights to those of a logistic regression for each label on fixed features.

        Args:
            train, val: features [examples, num_features], and 0s and 1s [examples, num_outputs]; on any device. The L2
                strength with the least binary cross-entropy on `val` is taken, one for all labels.

        Returns:
            That strength.
        """
        (features, targets), (val_features, val_targets) = ((x.float().cpu(), y.float().cpu()) for x, y in (train, val))
        mean, std = features.mean(0), features.std(0).clamp_min(1e-6)
        standard, best = ((features - mean) / std).numpy(), (torch.inf, 0.0)
        for l2 in L2_STRENGTHS:
            fitted = [label_regression(standard, label.numpy(), l2) for label in targets.bool().unbind(1)]
            weight = torch.from_numpy(np.stack([weight for weight, _ in fitted])).float() / std
            bias = torch.tensor([bias for _, bias in fitted]) - weight @ mean
            loss = F.binary_cross_entropy_with_logits(val_features @ weight.T + bias, val_targets).item()
            if loss < best[0]:
                best = (loss, l2)
                self.linear.weight.copy_(weight)
                self.linear.bias.copy_(bias)
        return best[1]


def label_regression(features: np.ndarray, label: np.ndarray, l2: float) -> tuple[np.ndarray, float]:
    """Minimise the mean binary cross-entropy + l2/2 * |weight|^2; return weight [num_features] and bias.

    Args:
        features: [examples, num_features].
        label: whether each example has it, [examples]. Where all or none have it, the bias alone says so.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression  # takes seconds

    count, size = int(label.sum()), len(label)
    if count in (0, size):
        return np.zeros(features.shape[1], np.float32), math.log((count + 1) / (size - count + 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a fit that is not finished is judged on val as it is
        fitted = LogisticRegression(C=1 / (l2 * size), max_iter=200).fit(features, label)
    return fitted.coef_[0], float(fitted.intercept_[0])


def ridge_regression(features: Tensor, targets: Tensor, l2: float) -> tuple[Tensor, Tensor]:
    """Minimise mean squared error + l2 * |weight|^2 in closed form; of several minima, the one of least norm.

    Returns:
        weight [1, num_features] and bias [1].
    """
    x, y = features.double(), targets.double()
    mean = x.mean(0)
    weight = _inverse_gram(x - mean, l2) @ ((x - mean).T @ (y - y.mean()))
    return weight.float()[None], (y.mean() - weight @ mean).float()[None]


def leave_one_out_error(features: Tensor, targets: Tensor, l2: float) -> float:
    """Return the mean squared error of `ridge_regression` on each example when fitted to the others (Allen 1974);
    infinite where an example is fitted exactly by a weight of its own.
    """
    x, y = features.double(), targets.double()
    x = x - x.mean(0)
    inverse = _inverse_gram(x, l2)
    leverage = ((x @ inverse) * x).sum(1) + 1 / len(x)
    error = y - y.mean() - x @ (inverse @ (x.T @ (y - y.mean())))
    return (error / (1 - leverage)).square().mean().item() if (1 - leverage).min() > 1e-9 else torch.inf


def _inverse_gram(centred: Tensor, l2: float) -> Tensor:
    size = centred.shape[1]
    gram = centred.T @ centred + l2 * len(centred) * torch.eye(size, dtype=centred.dtype, device=centred.device)
    return torch.linalg.pinv(gram, hermitian=True)


def logistic_regression(
    features: Tensor, targets: Tensor, num_classes: int, l2: float, class_weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Minimise mean cross-entropy, maybe weighted by class, + l2/2 * |weight|^2 by L-BFGS.

    Returns:
        weight [num_classes, num_features] and bias [num_classes].
    """
    weight = torch.zeros(num_classes, features.shape[1], device=features.device, requires_grad=True)
    bias = torch.zeros(num_classes, device=features.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, tolerance_change=1e-7, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        with torch.enable_grad():
            loss = F.cross_entropy(features @ weight.T + bias, targets, class_weights) + l2 / 2 * weight.square().sum()
            optimizer.zero_grad()
            loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach(), bias.detach()
