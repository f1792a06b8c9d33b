"""Numbers out of the ordinary."""

from __future__ import annotations

import numpy as np

from src.data_checks.findings import Finding

FENCE = 3.0
"""Interquartile ranges beyond the quartiles: Tukey's outer fences (Exploratory Data Analysis, 1977, section 2D)."""
LEAST_SPREAD = np.log(1.5)
"""Of the logarithms: where nearly all are the same, half as much again is not yet odd."""


def outliers(values: np.ndarray, names: list[str], title: str) -> list[Finding]:
    """Return the finding that some of positive numbers lie far from the rest, on a scale of factors.

    Args:
        names: what to show of each.
        title: says what they are.
    """
    logs = np.log(np.maximum(values, 1e-9))
    low, middle, high = np.quantile(logs, [0.25, 0.5, 0.75])
    reach = FENCE * max(high - low, LEAST_SPREAD)
    odd = np.flatnonzero((logs < low - reach) | (logs > high + reach))
    if not len(odd):
        return []
    worst = odd[np.abs(logs[odd] - middle).argsort(kind="stable")[::-1]]
    return [Finding(f"{title}: {len(odd)}", examples=tuple(names[i] for i in worst.tolist()))]
