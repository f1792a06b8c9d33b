"""The linear layer on top of features, trained by steps or solved."""

from __future__ import annotations

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
        features, val_features, scale = _standardised(train[0], val[0])
        targets, val_targets = train[1].cpu(), val[1].cpu()
        if targets.is_floating_point():
            l2, weight, bias = ridge_regression(features, targets.numpy())
        else:
            weights = torch.ones(self.linear.out_features) if class_weights is None else class_weights.float().cpu()
            l2, weight, bias = logistic_regression(
                (features, targets.numpy()), (val_features, val_targets.numpy()), weights.numpy()
            )
        self._set(weight, bias, scale)
        return l2

    @torch.no_grad()
    def solve_labels(self, train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor]) -> float:
        """Set the weights of each output to those of a logistic regression of one label on fixed features.

        Args:
            train, val: features [examples, num_features] and targets [examples, labels], on any device. The L2 strength
                with the least binary cross-entropy on `val` is taken, one for all labels.

        Returns:
            That strength.
        """
        features, val_features, scale = _standardised(train[0], val[0])
        true, val_true = ((target > 0.5).cpu().numpy() for target in (train[1], val[1]))
        l2, weight, bias = label_regressions((features, true), (val_features, val_true))
        self._set(weight, bias, scale)
        return l2

    def _set(self, weight: np.ndarray, bias: np.ndarray, scale: tuple[Tensor, Tensor]) -> None:
        """Copy a solution for features that were standardised by their mean and deviation."""
        mean, std = scale
        of_features = torch.from_numpy(weight).double() / std
        self.linear.weight.copy_(of_features)
        self.linear.bias.copy_(torch.from_numpy(bias) - of_features @ mean.double())


def _standardised(train: Tensor, val: Tensor) -> tuple[np.ndarray, np.ndarray, tuple[Tensor, Tensor]]:
    """Return both on the scale of `train`, and its mean and deviation, each [num_features].

    Raises:
        InputError: a feature is NaN or infinite.
    """
    train, val = train.float().cpu(), val.float().cpu()
    if not (train.isfinite().all() and val.isfinite().all()):
        raise InputError("the features that the head is solved on are not all finite: try --precision 32-true.")
    mean, std = train.mean(0), train.std(0).clamp_min(1e-6)
    return ((train - mean) / std).numpy(), ((val - mean) / std).numpy(), (mean, std)


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


def label_regressions(
    train: tuple[np.ndarray, np.ndarray], val: tuple[np.ndarray, np.ndarray]
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the strength of `L2_STRENGTHS` with the least binary cross-entropy on `val`, weight [labels, num_features]
    and bias [labels]: for each label the minimum of the mean cross-entropy on `train` + strength / 2 * |weight|^2.

    A label that all examples of `train` have, or none, has a bias alone, as if half an example were otherwise.

    Args:
        train, val: features [examples, num_features] and whether an example has a label [examples, labels].
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression  # takes seconds

    (features, true), (val_features, val_true) = train, val
    size, count = len(features), true.sum(0)
    weight, bias = np.zeros((true.shape[1], features.shape[1])), np.log((count + 0.5) / (size - count + 0.5))
    varying = np.flatnonzero((count > 0) & (count < size))
    models = [LogisticRegression(tol=1e-5, max_iter=200, warm_start=True) for _ in varying]
    best = np.inf, 0.0, weight, bias
    for l2 in sorted(L2_STRENGTHS, reverse=True):  # from the strongest: each fit starts where the one before ended
        for label, model in zip(varying, models, strict=True):
            model.C = 1 / (l2 * size)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # a fit that is not finished is judged as it is
                model.fit(features, true[:, label])
            weight[label], bias[label] = np.asarray(model.coef_)[0], np.asarray(model.intercept_)[0]
        logits = torch.from_numpy(val_features @ weight.T + bias)
        loss = F.binary_cross_entropy_with_logits(logits, torch.from_numpy(val_true).double()).item()
        if loss < best[0]:
            best = loss, l2, weight.copy(), bias.copy()
    return best[1:]
