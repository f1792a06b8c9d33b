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
RIDGE_STRENGTHS = (1e-8, *L2_STRENGTHS)
"""The same for a regression; the first is too small to shrink what the data determine."""


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
            train, val: features [examples, num_features] and targets [examples], on any device. The L2 strength with
                the least cross-entropy on `val` is taken; for a regression that with the least leave-one-out error on
                `train`.
            class_weights: [classes], of the examples of each in either cross-entropy; on any device.

        Returns:
            That strength.

        Raises:
            InputError: a feature is NaN or infinite.
        """
        (features, targets), (val_features, val_targets) = ((x.float().cpu(), y.cpu()) for x, y in (train, val))
        if not (features.isfinite().all() and val_features.isfinite().all()):
            raise InputError("the features that the head is solved on are not all finite: try --precision 32.")
        mean, std = features.mean(0), features.std(0).clamp_min(1e-6)
        standard = ((features - mean) / std).numpy()
        if targets.is_floating_point():
            l2, weight, bias = ridge_regression(standard, targets.numpy())
        else:
            weights = torch.ones(self.linear.out_features) if class_weights is None else class_weights.float().cpu()
            val_standard = ((val_features - mean) / std).numpy()
            l2, weight, bias = logistic_regression(
                (standard, targets.numpy()), (val_standard, val_targets.numpy()), weights.numpy()
            )
        weight = torch.from_numpy(weight).double() / std
        self.linear.weight.copy_(weight)
        self.linear.bias.copy_(torch.from_numpy(bias) - weight @ mean.double())
        return l2

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


def ridge_regression(features: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the strength of `RIDGE_STRENGTHS` with the least leave-one-out error, weight [1, num_features] and bias
    [1]: the minimum of mean squared error + strength * |weight|^2.
    """
    from sklearn.linear_model import RidgeCV  # takes seconds

    size = len(features)
    fitted = RidgeCV(np.multiply(RIDGE_STRENGTHS, size)).fit(features.astype(np.float64), targets.astype(np.float64))
    chosen = np.argmin(np.abs(np.multiply(RIDGE_STRENGTHS, size) - np.asarray(fitted.alpha_)))
    return RIDGE_STRENGTHS[chosen], np.asarray(fitted.coef_)[None], np.array([fitted.intercept_])


def logistic_regression(
    train: tuple[np.ndarray, np.ndarray], val: tuple[np.ndarray, np.ndarray], class_weights: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the strength of `L2_STRENGTHS` with the least cross-entropy on `val`, weight [classes, num_features] and
    bias [classes]: the minimum of the mean cross-entropy on `train`, weighted by class, + strength / 2 * |weight|^2.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression  # takes seconds

    classes = len(class_weights)
    # An example without weight for each class: scikit-learn leaves out a class that has none.
    features = np.concatenate([train[0], np.zeros((classes, train[0].shape[1]), np.float32)])
    targets = np.concatenate([train[1], np.arange(classes)])
    weights = np.concatenate([class_weights[train[1]], np.zeros(classes, np.float32)])
    model = LogisticRegression(tol=1e-5, max_iter=200, warm_start=True)
    # Of two classes scikit-learn fits the difference w of the two weights, w / 2 and -w / 2, whose squares add to half.
    penalty = weights.sum() / (2 if classes == 2 else 1)
    best = np.inf, 0.0, np.empty(0), np.empty(0)
    for l2 in sorted(L2_STRENGTHS, reverse=True):  # from the strongest: each fit starts where the one before ended
        model.C = 1 / (l2 * penalty)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a fit that is not finished is judged on val as it is
            model.fit(features, targets, weights)
        weight, bias = np.array(model.coef_), np.array(model.intercept_)  # copies: the next fit starts from them
        if classes == 2:
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        logits = torch.from_numpy(val[0] @ weight.T + bias).float()
        loss = F.cross_entropy(logits, torch.from_numpy(val[1]), torch.from_numpy(class_weights)).item()
        if loss < best[0]:
            best = loss, l2, weight, bias
    return best[1:]
