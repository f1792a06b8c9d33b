"""The intervals of a card's scores, against SciPy, closed forms and drawn samples."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, f1_score, r2_score, roc_auc_score

from src.explain.card.by_group import MISSING, cut
from src.explain.card.intervals import Score, area, scores_of, share


def classes(count: int, num_classes: int, seed: int = 0, signal: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities [count, num_classes] that tend to be right, and targets."""
    rng = np.random.default_rng(seed)
    target = rng.integers(num_classes, size=count)
    logits = rng.normal(size=(count, num_classes)) + signal * np.eye(num_classes)[target]
    prob = np.exp(logits)
    return prob / prob.sum(1, keepdims=True), target


def of(score: Score) -> tuple[float, float]:
    assert score.interval is not None
    return score.interval


def test_wilsons_interval() -> None:
    found = share(np.arange(100) < 90)
    assert of(found) == pytest.approx((0.8256, 0.9448), abs=1e-4)  # Wilson 1927, as R's prop.test(correct=FALSE)
    assert of(share(np.ones(10, bool)))[1] == 1
    assert of(share(np.ones(10, bool)))[0] == pytest.approx(1 / (1 + 1.959964**2 / 10), abs=1e-6)


@pytest.mark.parametrize("num_classes", [2, 4])
def test_scores_of_classes_are_scikit_learns(num_classes: int) -> None:
    prob, target = classes(300, num_classes)
    found = scores_of("single_label", {"prob": prob}, target)
    label = prob.argmax(1)
    one = prob[:, 1] if num_classes == 2 else prob
    assert found["acc"].value == np.mean(label == target)
    assert found["balanced_acc"].value == pytest.approx(balanced_accuracy_score(target, label))
    assert found["f1"].value == pytest.approx(f1_score(target, label, average="macro"))
    assert found["auroc"].value == pytest.approx(roc_auc_score(target, one, multi_class="ovr"))


def test_the_bootstrap_is_scipys() -> None:
    prob, target = classes(150, 3)
    found = scores_of("single_label", {"prob": prob}, target)["balanced_acc"]
    theirs = stats.bootstrap(
        (target, prob.argmax(1)),
        lambda true, label: balanced_accuracy_score(true, label),
        paired=True,
        vectorized=False,
        n_resamples=800,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert of(found) == pytest.approx((theirs.low, theirs.high), abs=0.012)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_an_area_has_the_spread_that_fresh_samples_have(num_classes: int) -> None:
    """DeLong's standard error, read off the interval, against the areas of 400 other samples."""
    drawn = [area(*classes(200, num_classes, seed)) for seed in range(400)]
    widths = [high - low for low, high in map(of, drawn)]
    expected = 2 * 1.96 * np.std([one.value for one in drawn])
    assert np.mean(widths) == pytest.approx(expected, rel=0.1)
    truth = np.mean([one.value for one in drawn])
    assert np.mean([low <= truth <= high for low, high in map(of, drawn)]) == pytest.approx(0.95, abs=0.03)


def test_intervals_of_numbers_hold_what_they_say() -> None:
    """Of 200 samples, 95 % of the intervals hold the true error of 2."""

    def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        target = rng.normal(100, 5, 120)
        return target, target + rng.normal(0, 2, 120)

    hold = []
    for target, prediction in map(drawn, range(200)):
        low, high = of(scores_of("regression", {"prediction": prediction}, target)["rmse"])
        hold.append(low <= 2 <= high)
    assert np.mean(hold) == pytest.approx(0.94, abs=0.04)
    target, prediction = drawn(0)
    found = scores_of("regression", {"prediction": prediction}, target)
    assert found["r2"].value == pytest.approx(r2_score(target, prediction))
    assert found["mae"].value == pytest.approx(np.abs(prediction - target).mean())


def test_scores_of_labels_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    target = (rng.random((200, 3)) < (0.5, 0.2, 0.05)).astype(np.float32)
    prob = np.clip(target * 0.4 + rng.random((200, 3)) * 0.6, 0, 1)
    found = scores_of("multi_label", {"prob": prob}, target)
    for average in ("micro", "macro"):
        value, (low, high) = found[f"f1_{average}"].value, of(found[f"f1_{average}"])
        assert value == pytest.approx(f1_score(target > 0.5, prob >= 0.5, average=average))
        assert low < value < high
    assert found["exact_match"].how == "Wilson"


def test_no_interval_is_invented() -> None:
    one = scores_of("single_label", {"prob": np.array([[0.3, 0.7]])}, np.array([1]))
    assert all(score.interval is None for score in one.values())
    alone = scores_of("regression", {"prediction": np.array([3.0])}, np.array([1.0]))
    assert alone["rmse"] == Score(2.0, None)
    assert np.isnan(alone["r2"].value)
    right = np.eye(2)[np.arange(30) % 2]
    perfect = scores_of("single_label", {"prob": right}, np.arange(30) % 2)
    assert perfect["acc"].interval is not None
    assert perfect["balanced_acc"] == Score(1.0, None)
    assert perfect["auroc"] == Score(1.0, None)
    constant = scores_of("regression", {"prediction": np.arange(9.0)}, np.ones(9))
    assert constant["r2"].interval is None


def test_absent_classes_are_left_out() -> None:
    prob, target = classes(80, 2)
    wider = np.concatenate([prob, np.zeros((80, 1))], axis=1)
    with_two, with_three = (scores_of("single_label", {"prob": each}, target) for each in (prob, wider))
    for name in ("balanced_acc", "f1", "auroc"):
        assert with_three[name].value == pytest.approx(with_two[name].value)


@pytest.mark.parametrize(
    ("cells", "groups"),
    [
        (["b", "a", "", "a"], ["a", "b", MISSING]),
        ([str(i % 3) for i in range(30)], ["0", "1", "2"]),
        ([str(i) for i in range(1, 41)], ["up to 10.75", "10.75 to 20.5", "20.5 to 30.25", "above 30.25"]),
        ([f"{i},5" for i in range(40)] + [""], ["up to 10.25", "10.25 to 20", "20 to 29.75", "above 29.75", MISSING]),
        (["1"] * 30 + [str(i) for i in range(10)], ["up to 1", "above 1"]),
    ],
)
def test_columns_are_cut(cells: list[str], groups: list[str]) -> None:
    group_of, order = cut(cells)
    assert order == groups
    assert set(group_of) == set(groups)
    assert len(group_of) == len(cells)
    if len(groups) == 4:
        assert group_of.value_counts().tolist() == [10] * 4
