"""Methods that hide parts of an input and watch the answer; they work on any kind of input and any network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from src.explain.example import Example
from src.explain.method import Attribution
from src.explain.subject import Subject

LIME_LEAST, LIME_A_PART, LIME_MOST = 200, 16, 1000
"""Masks that LIME draws: so many a part, between the least and the most."""
LIME_GROUPS = 10
"""Of the masks, each left out once to tell the error."""
LIME_WIDTH, LIME_PENALTY = 0.25, 1 / 5000
"""Of LIME's kernel, in cosine distance, and of its ridge, for each mask; as in the authors' package."""


def occlusion(subject: Subject, examples: Sequence[Example], targets: Sequence[int]) -> list[Attribution]:
    """Return by how much the answer falls when a part is hidden, each alone (Zeiler & Fergus 2014, arXiv 1311.2901)."""
    return [_occlusion(subject, *pair) for pair in zip(examples, targets, strict=True)]


def _occlusion(subject: Subject, example: Example, target: int) -> Attribution:
    count = len(example)
    scores = subject.scores(example, target, ~np.eye(count + 1, count, dtype=bool))  # the last row hides nothing
    return Attribution(scores[-1] - scores[:-1])


def lime(subject: Subject, examples: Sequence[Example], targets: Sequence[int]) -> list[Attribution]:
    """Return the weights of a ridge regression of the answer on which parts are there (Ribeiro et al. 2016).

    Masks that hide little count most (arXiv 1602.04938, section 3.4). The error is the jackknife's, by groups of masks.
    """
    return [_lime(subject, *pair) for pair in zip(examples, targets, strict=True)]


def _lime(subject: Subject, example: Example, target: int) -> Attribution:
    from sklearn.linear_model import Ridge

    count = len(example)
    draws = min(max(LIME_A_PART * count, LIME_LEAST), LIME_MOST)
    rng = np.random.default_rng(0)
    hidden = rng.integers(1, count, draws, endpoint=True)
    kept = rng.permuted(np.arange(count) >= np.r_[0, hidden][:, None], axis=1)  # the first hides nothing
    distance = 1 - np.sqrt(kept.mean(1))  # cosine distance to the mask that hides nothing
    weights = np.exp(-((distance / LIME_WIDTH) ** 2) / 2)
    scores = subject.scores(example, target, kept)

    def fit(rows: np.ndarray) -> np.ndarray:
        ridge = Ridge(alpha=LIME_PENALTY * rows.sum())
        return ridge.fit(kept[rows], scores[rows], sample_weight=weights[rows]).coef_

    groups = np.r_[-1, np.arange(draws) % LIME_GROUPS]
    without = [fit(groups != group) for group in range(LIME_GROUPS)]
    error = np.sqrt((LIME_GROUPS - 1) * np.var(without, 0))
    return Attribution(fit(groups < LIME_GROUPS), error, freedom=LIME_GROUPS - 1)
