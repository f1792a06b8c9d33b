"""The strength of a solved head: chosen by cross-validation, the strongest that cannot be told from the best."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from src.experiment import InputError
from src.models.heads import Head
from src.models.regressions import FOLDS, L2_STRENGTHS, deal, strongest_alike

Rows = tuple[Tensor, Tensor]


def brier_scores(x: Tensor, y: Tensor, l2: float, weights: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return the Brier score of each example by scikit-learn's fit to the other folds; of one in no fold NaN."""
    standard, targets = ((x - x.mean(0)) / x.std(0)).double().numpy(), y.numpy()
    found, classes = np.full(len(y), np.nan), len(weights)
    for fold in range(FOLDS):
        held, kept = np.flatnonzero(folds == fold), folds != fold
        if not len(held):
            continue
        penalty = l2 * weights[targets[kept]].sum() / (2 if classes == 2 else 1)
        model = LogisticRegression(C=1 / penalty, tol=1e-8, max_iter=5000)
        model.fit(standard[kept], targets[kept], weights[targets[kept]])
        true = targets[held, None] == model.classes_
        found[held] = np.square(model.predict_proba(standard[held]) - true).sum(1)
    return found


def expected(x: Tensor, y: Tensor, weights: np.ndarray, folds: np.ndarray) -> tuple[float, float]:
    """Return the strongest strength whose mean score is within one standard error of the least, and that of the
    least."""
    scores = {l2: brier_scores(x, y, l2, weights, folds) for l2 in L2_STRENGTHS}
    held = ~np.isnan(scores[1.0])
    share = weights[y.numpy()][held] / weights[y.numpy()][held].sum()
    means = {l2: float((share * score[held]).sum()) for l2, score in scores.items()}
    best = min(means, key=lambda l2: means[l2])
    # of a weighted mean (Cochran 1977, 6.13), here all but the correction for so few examples
    error = np.sqrt((share**2 * (scores[best][held] - means[best]) ** 2).sum() * held.sum() / (held.sum() - 1))
    return max(l2 for l2, mean in means.items() if mean <= means[best] + error), best


def easy(count: int = 400, wrong: int = 4) -> Rows:
    """Return classes that are far apart, but for a few labels that are mistakes."""
    rng = np.random.default_rng(0)
    y = np.arange(count) % 2
    x = rng.normal(size=(count, 20)) + 3.0 * (2 * y[:, None] - 1) * (np.arange(20) < 4)
    y[:wrong] = 1 - y[:wrong]
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def askew(count: int = 600) -> Rows:
    """Return classes that only the small difference of two columns tells, which shrinking hides."""
    rng = np.random.default_rng(0)
    base, y = rng.normal(size=count), np.arange(count) % 2
    difference = 0.05 * (2 * y - 1) + 0.01 * rng.normal(size=count)
    return torch.tensor(np.stack([base, base + difference], 1), dtype=torch.float32), torch.tensor(y)


def of_classes(count: int, classes: int, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    y = np.arange(count) % classes
    x = rng.normal(size=(count, 6)) + np.eye(classes, 6)[y]
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def test_of_strengths_that_cannot_be_told_apart_the_strongest_is_taken() -> None:
    x, y = easy()
    strength, best = expected(x, y, np.ones(2), deal(y[:, None].numpy()))
    assert best < strength, "the premise: the least score is that of a weaker one"
    head = Head(20, 2).eval()
    assert head.solve(x, y) == strength
    right = y[4:] == head(x[4:]).argmax(1)
    assert right.all()


def test_a_weak_strength_that_is_better_is_kept() -> None:
    x, y = askew()
    head = Head(2, 2).eval()
    assert head.solve(x, y) == min(L2_STRENGTHS)
    assert (head(x).argmax(1) == y).float().mean() > 0.99


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("classes", [2, 3])
def test_the_strength_is_that_of_scikit_learns_fits_to_the_folds(classes: int, seed: int) -> None:
    x, y = of_classes(60, classes, seed)
    strength, _ = expected(x, y, np.ones(classes), deal(y[:, None].numpy()))
    assert Head(6, classes).solve(x, y) == strength


def test_the_classes_weights_count_in_the_choice() -> None:
    x, y = of_classes(60, 3, seed=10)
    folds, chosen = deal(y[:, None].numpy()), []
    for weights in (np.ones(3), np.array([8.0, 1.0, 0.2])):
        chosen.append(expected(x, y, weights, folds)[0])
        assert Head(6, 3).solve(x, y, torch.tensor(weights, dtype=torch.float32)) == chosen[-1]
    assert chosen[0] != chosen[1], "the premise"


def test_weights_count_by_their_shares_alone() -> None:
    errors = {0.1: np.array([0.1, 0.2, 0.3, 0.9]), 1.0: np.array([0.2, 0.3, 0.4, 0.2])}
    for weights, strength in (([1, 1, 1, 1], 1.0), ([1, 1, 1, 0.01], 0.1)):
        assert {strongest_alike(errors, scale * np.array(weights)) for scale in (0.1, 1.0, 50.0)} == {strength}


def test_equal_means_are_within_an_error_of_zero() -> None:
    assert strongest_alike({l2: np.full(5, 0.25) for l2 in L2_STRENGTHS}, np.ones(5)) == max(L2_STRENGTHS)


def test_solving_again_is_the_same_to_the_bit_whatever_was_drawn_before() -> None:
    x, y = easy()
    heads = [Head(20, 2), Head(20, 2)]
    for seed, head in enumerate(heads):
        torch.manual_seed(seed)
        np.random.seed(seed)
        head.solve(x, y)
    assert torch.equal(heads[0].linear.weight, heads[1].linear.weight)
    assert torch.equal(heads[0].linear.bias, heads[1].linear.bias)


@pytest.mark.parametrize("counts", [(30, 2), (30, 1), (20, 3, 1), (2, 2)])
def test_classes_of_fewer_examples_than_folds(counts: tuple[int, ...]) -> None:
    y = np.repeat(np.arange(len(counts)), counts)
    x = np.random.default_rng(0).normal(size=(len(y), 6)) + 2 * np.eye(len(counts), 6)[y]
    rows = torch.tensor(x, dtype=torch.float32), torch.tensor(y)
    folds = deal(y[:, None])
    folds[np.array(counts)[y] == 1] = FOLDS  # alone in its class: always fitted to
    for fold in range(FOLDS):
        assert set(y[folds != fold]) == set(y), "the premise: every fit knows every class"
    head = Head(6, len(counts))
    assert head.solve(*rows) == expected(*rows, np.ones(len(counts)), folds)[0]
    assert head.linear.weight.isfinite().all()


def test_without_an_example_to_hold_out_it_is_the_strongest() -> None:
    assert Head(6, 3).solve(torch.eye(3, 6), torch.arange(3)) == max(L2_STRENGTHS)


def test_folds_have_their_share_of_each_class_and_combination_of_labels() -> None:
    y = np.random.default_rng(0).integers(0, 2, (103, 2))
    folds = deal(y)
    for row in np.unique(y, axis=0):
        counts = np.bincount(folds[(y == row).all(1)], minlength=FOLDS)
        assert np.ptp(counts) <= 1
    assert np.ptp(np.bincount(folds)) <= 1
    assert np.any(np.diff(folds[:20]) != 0), "neighbours are not one fold"


def test_of_many_examples_one_fold_is_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = of_classes(60, 3, seed=1)
    folds = deal(y[:, None].numpy())
    alone = np.where(folds == 0, 0, FOLDS)
    strength, _ = expected(x, y, np.ones(3), alone)
    assert strength != expected(x, y, np.ones(3), folds)[0], "the premise"
    monkeypatch.setattr("src.models.regressions.MANY", 59)
    assert Head(6, 3).solve(x, y) == strength


def test_labels_have_one_strength_by_the_mean_of_their_scores() -> None:
    x, y = askew(200)
    noise = torch.tensor(np.random.default_rng(1).integers(0, 2, 200))
    head = Head(2, 2)
    both = head.solve_labels(x, torch.stack([y, noise], 1).float())
    alone = Head(2, 1).solve_labels(x, noise[:, None].float())
    assert both == min(L2_STRENGTHS), "the label that needs it decides"
    assert alone == max(L2_STRENGTHS), "of one that nothing tells all strengths are alike"


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_features_that_are_not_finite_are_refused(broken: float) -> None:
    x, y = of_classes(30, 2)
    x[3, 2] = broken
    with pytest.raises(InputError, match=r"not all finite.*--precision 32"):
        Head(6, 2).solve(x, y)
    with pytest.raises(InputError, match=r"not all finite.*--precision 32"):
        Head(6, 2).solve_labels(x, torch.nn.functional.one_hot(y).float())
