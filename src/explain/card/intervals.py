"""Scores of predictions and how sure they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.special import expit, logit
from scipy.stats import binomtest, norm, rankdata

from src.answers import Predicted
from src.configs.spec import TargetKind

LEVEL = 0.95
RESAMPLES = 2000
FEWEST_RESAMPLES = 200
DRAWS = 40_000_000
"""Examples drawn in all at the most; of more, there are fewer resamples."""
CHUNK = 2_000_000
"""Examples drawn at once: memory does not grow with the split."""
MOST_RANKED = 50_000_000
"""Probabilities up to which an area under the curve has an interval."""
MAIN: dict[TargetKind, str] = {"single_label": "acc", "multi_label": "f1_micro", "regression": "rmse"}
"""The score by which groups are compared."""

Interval = tuple[float, float]
Scores = dict[str, "Score"]


class Score(NamedTuple):
    """A score, named as in the record, and its 95 % interval."""

    value: float
    interval: Interval | None
    """None where there is none: a single example, or resamples that are all alike since nothing was wrong."""
    how: str = ""
    """Where the interval comes from."""


def scores_of(kind: TargetKind, predicted: Predicted, target: np.ndarray, level: float = LEVEL) -> Scores:
    """Return the scores that have an interval.

    Args:
        kind: of target.
        predicted: as an objective reads it from a CSV, each [examples, ...].
        target: [examples] or [examples, labels].
        level: of the intervals.
    """
    match kind:
        case "single_label":
            return _of_classes(predicted["prob"], target, level)
        case "multi_label":
            return _of_labels(predicted["prob"] >= 0.5, target > 0.5, level)
        case "regression":
            return _of_numbers(predicted, target, level)


def share(right: np.ndarray, level: float = LEVEL) -> Score:
    """Return the share of True with Wilson's interval (Wilson 1927)."""
    if len(right) < 2:
        return Score(float(np.mean(right)), None)
    found = binomtest(int(right.sum()), len(right)).proportion_ci(level, method="wilson")
    return Score(float(right.mean()), (float(found.low), float(found.high)), "Wilson")


def area(prob: np.ndarray, target: np.ndarray, level: float = LEVEL) -> Score:
    """Return the mean area under the ROC curve of each class against the others, of classes that are there.

    The variance is that of DeLong et al. 1988 (https://doi.org/10.2307/2531595) for the mean over the classes; the
    interval is normal on the logit scale, so that it stays within 0 and 1.

    Args:
        prob: [examples, classes].
        target: [examples].
        level: of the interval.
    """
    classes, pull = [], np.zeros(len(target))
    for position in range(prob.shape[1]):
        has = target == position
        if not 0 < has.sum() < len(has):
            continue
        scores = prob[:, position]
        below = np.empty(len(scores))
        ranks = rankdata(scores)
        below[has] = (ranks[has] - rankdata(scores[has])) / (~has).sum()
        below[~has] = 1 - (ranks[~has] - rankdata(scores[~has])) / has.sum()
        found = below[has].mean()
        classes.append(found)
        pull += (below - found) / np.where(has, has.sum(), (~has).sum())
    if not classes:
        return Score(float("nan"), None)
    value = float(np.mean(classes))
    error = float(np.sqrt((pull**2).sum() * len(target) / (len(target) - 1))) / len(classes)
    if not (0 < value < 1 and error > 0):
        return Score(value, None)
    half = float(norm.ppf(0.5 + level / 2)) * error / (value * (1 - value))
    centre = float(logit(value))
    return Score(value, (float(expit(centre - half)), float(expit(centre + half))), "DeLong")


def _of_classes(prob: np.ndarray, target: np.ndarray, level: float) -> Scores:
    count, label = prob.shape[1], prob.argmax(1)
    rows, right = np.arange(len(target)), label == target
    columns = np.concatenate([target[right], count + label, 2 * count + target])  # right, predicted, true
    places = (np.concatenate([rows[right], rows, rows]), columns)
    parts = csr_array(coo_array((np.ones(len(columns)), places), (len(target), 3 * count)))

    def statistic(sums: np.ndarray) -> dict[str, np.ndarray]:
        hits, given, true = sums[:, :count], sums[:, count : 2 * count], sums[:, 2 * count :]
        return {"balanced_acc": _mean(hits, true), "f1": _mean(2 * hits, given + true)}

    found = {"acc": share(right, level)} | bootstrap(parts, statistic, level)
    if prob.size <= MOST_RANKED:
        found["auroc"] = area(prob, target, level)
    return found


def _of_labels(given: np.ndarray, true: np.ndarray, level: float) -> Scores:
    count = true.shape[1]
    parts = csr_array(np.concatenate([given & true, given, true], axis=1).astype(np.float64))

    def statistic(sums: np.ndarray) -> dict[str, np.ndarray]:
        hits, rest = sums[:, :count], sums[:, count : 2 * count] + sums[:, 2 * count :]
        total = rest.sum(1)
        micro = np.divide(2 * hits.sum(1), total, out=np.zeros(len(sums)), where=total > 0)
        return {"f1_micro": micro, "f1_macro": _mean(2 * hits, rest)}

    return bootstrap(parts, statistic, level) | {"exact_match": share((given == true).all(1), level)}


def _of_numbers(predicted: Predicted, target: np.ndarray, level: float) -> Scores:
    error, middle = predicted["prediction"] - target, target - target.mean()
    parts = csr_array(np.stack([error**2, np.abs(error), middle, middle**2], axis=1))
    count = len(target)

    def statistic(sums: np.ndarray) -> dict[str, np.ndarray]:
        spread = sums[:, 3] - sums[:, 2] ** 2 / count
        with np.errstate(divide="ignore", invalid="ignore"):
            r2 = np.where(spread > 0, 1 - sums[:, 0] / spread, np.nan)
        return {"rmse": np.sqrt(sums[:, 0] / count), "mae": sums[:, 1] / count, "r2": r2}

    found = bootstrap(parts, statistic, level)
    if "lower" in predicted:
        found["coverage"] = share((predicted["lower"] <= target) & (target <= predicted["upper"]), level)
    return found


def _mean(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return the mean [rows] of the quotients [rows, classes], of classes that are there."""
    there = below > 0
    quotients = np.divide(above, below, out=np.zeros(above.shape), where=there)
    return quotients.sum(1) / np.maximum(there.sum(1), 1)


def bootstrap(
    parts: csr_array, statistic: Callable[[np.ndarray], dict[str, np.ndarray]], level: float = LEVEL, seed: int = 0
) -> Scores:
    """Return scores with the percentile interval over resampled examples (Efron & Tibshirani 1993, ch. 13).

    Args:
        parts: what each example adds to the sums that the scores are made of, [examples, parts].
        statistic: from sums [resamples, parts] to the scores [resamples].
        level: of the intervals.
        seed: of the resamples.
    """
    values = {name: float(value[0]) for name, value in statistic(np.asarray(parts.sum(0))[None]).items()}
    count: int = parts.shape[0]  # pyright: ignore[reportOptionalSubscript] # scipy's stub has None for it
    if count < 2:
        return {name: Score(value, None) for name, value in values.items()}
    drawn = [statistic(counts @ parts) for counts in _resamples(count, np.random.default_rng(seed))]
    found: Scores = {}
    for name, value in values.items():
        resampled = np.concatenate([each[name] for each in drawn])
        if np.isnan(value) or np.isnan(resampled).all():
            found[name] = Score(value, None)
            continue
        low, high = (float(end) for end in np.nanquantile(resampled, ((1 - level) / 2, (1 + level) / 2)))
        found[name] = Score(value, (low, high), "bootstrap") if high > low else Score(value, None)
    return found


def _resamples(count: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield how often each example is in some resamples, float64 [resamples, examples]."""
    left = max(FEWEST_RESAMPLES, min(RESAMPLES, DRAWS // count))
    while left:
        size = min(left, max(1, CHUNK // count))
        places = rng.integers(count, size=(size, count)) + np.arange(size)[:, None] * count
        yield np.bincount(places.ravel(), minlength=size * count).reshape(size, count).astype(np.float64)
        left -= size
