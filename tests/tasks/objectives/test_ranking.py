"""Ranks of more examples than are kept: as scikit-learn has them, in memory that does not grow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from src.tasks.objectives import ranking
from src.tasks.objectives.present import MeanAUROC, MeanAveragePrecision


def made(count: int, classes: int, spread: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return probabilities [count, classes] and classes, half of them the first."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(classes, (count,), generator=generator)
    target[: count // 2] = 0
    order = torch.randperm(count, generator=generator)
    logits = torch.randn(count, classes, generator=generator)
    logits[torch.arange(count), target] += 1
    return (logits * spread).softmax(1)[order], target[order]


def filled(metric: Any, prob: Tensor, target: Tensor) -> Any:
    for batch in zip(prob.split(256), target.split(256), strict=True):
        metric.update(*batch)
    return metric


@pytest.mark.parametrize("spread", [0.02, 1.0, 30.0])
@pytest.mark.parametrize("classes", [2, 5])
def test_many_are_ranked_as_by_scikit_learn(classes: int, spread: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the probabilities are nearly alike, apart, or 0 and 1."""
    monkeypatch.setattr(ranking, "MOST_KEPT", 40_000)
    prob, target = made(40_000, classes, spread)
    has = torch.nn.functional.one_hot(target, classes)
    columns = [(has[:, k].numpy(), prob[:, k].numpy()) for k in range(classes)]
    area = float(filled(MeanAUROC(classes), prob, target).compute())
    assert area == pytest.approx(np.mean([roc_auc_score(*column) for column in columns]), abs=5e-5)
    precision = float(filled(MeanAveragePrecision(classes), prob, has).compute())
    assert precision == pytest.approx(np.mean([average_precision_score(*column) for column in columns]), abs=1e-3)


def test_ties_are_half_right_whatever_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "MOST_KEPT", 5000)
    prob = torch.tensor([0.1, 0.5, 0.9])[torch.arange(30_000) % 3]
    prob, target = torch.stack([1 - prob, prob], 1), (torch.arange(30_000) % 7 < 2).long()
    assert float(filled(MeanAUROC(2), prob, target).compute()) == pytest.approx(roc_auc_score(target, prob[:, 1]))


def test_a_class_that_none_has_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "MOST_KEPT", 5000)
    prob, target = made(10_000, 2, 1.0)
    wider = torch.cat([prob, torch.zeros(len(prob), 1)], 1)
    has = torch.nn.functional.one_hot(target, 3)
    assert float(filled(MeanAUROC(3), wider, target).compute()) == pytest.approx(
        float(filled(MeanAUROC(2), prob, target).compute()), abs=1e-4
    )
    assert float(filled(MeanAveragePrecision(3), wider, has).compute()) == pytest.approx(
        float(filled(MeanAveragePrecision(2), prob, has[:, :2]).compute()), abs=1e-3
    )


def test_what_is_kept_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "MOST_KEPT", 10_000)
    metric = MeanAUROC(2)
    sizes = []
    for seed in range(20):
        filled(metric, *made(10_000, 2, 1.0, seed))
        states = metric.metric_state.values()
        sizes.append(sum(part.numel() for state in states for part in state))
    assert max(sizes) <= 2 * 10_000 + 2 * 3 * ranking.GROUPS
    metric.reset()
    prob, target = made(500, 2, 1.0)
    assert float(filled(metric, prob, target).compute()) == pytest.approx(roc_auc_score(target, prob[:, 1]), abs=1e-6)
    assert not metric.merged
