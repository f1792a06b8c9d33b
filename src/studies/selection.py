"""Which runs make the best ensemble, and how much each counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from src.configs.spec import TargetKind

ROUNDS = 50
"""Draws of a member: the shares are multiples of 1 in as many, or fewer."""
LEAST = 1e-6
"""A probability, so that one sure mistake does not decide alone."""


def select(kind: TargetKind, members: Sequence[np.ndarray], target: np.ndarray) -> list[float]:
    """Return the share of each member in the ensemble with the least loss on data that no member was trained on.

    Greedy ensemble selection with replacement (Caruana et al. 2004, https://doi.org/10.1145/1015330.1015432): of all
    members, the one that improves the mean most is added, again and again. The shares add up to 1; most are 0.

    Args:
        kind: what is predicted.
        members: of each its probabilities [examples, classes], or numbers [examples].
        target: classes [examples], 0s and 1s [examples, labels], or numbers [examples].
    """
    predicted = np.stack(members).astype(np.float64)
    counts = np.zeros(len(members), int)
    total = np.zeros_like(predicted[0])
    best, best_loss = counts.copy(), np.inf
    for size in range(1, ROUNDS + 1):
        losses = [loss(kind, (total + one) / size, target) for one in predicted]
        chosen = int(np.argmin(losses))
        counts[chosen] += 1
        total += predicted[chosen]
        if losses[chosen] < best_loss:
            best, best_loss = counts.copy(), losses[chosen]
    return (best / best.sum()).tolist()


def loss(kind: TargetKind, predicted: np.ndarray, target: np.ndarray) -> float:
    """Return the mean negative logarithm of the likelihood of classes or labels, or the root mean squared error."""
    match kind:
        case "single_label":
            return float(-np.log(np.maximum(predicted[np.arange(len(target)), target], LEAST)).mean())
        case "multi_label":
            right = np.where(target > 0.5, predicted, 1 - predicted)
            return float(-np.log(np.maximum(right, LEAST)).mean())
        case "regression":
            return float(np.sqrt(np.square(predicted - target).mean()))
