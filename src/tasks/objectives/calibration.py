"""How far a classifier's probabilities can be trusted: its temperature and threshold, both chosen on validation data.

Everything takes probabilities [examples, classes]; their logarithms are logits up to a constant, which no softmax sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.metrics import precision_recall_curve, roc_curve

TEMPERATURES = (0.05, 20.0)
"""Least and greatest temperature that is tried."""
BINS = 15
"""Of equal width, for the calibration error, as in Guo et al. 2017 (arXiv 1706.04599)."""

LEAST = 1e-38
"""Probability below which no logarithm is taken; float32's least is near."""


def _log(prob: np.ndarray, temperature: float) -> np.ndarray:
    logs = np.log(np.maximum(prob.astype(np.float64), LEAST))
    return log_softmax(logs / temperature, axis=1)


def with_temperature(prob: np.ndarray, temperature: float) -> np.ndarray:
    """Return the probabilities after the logits were divided by a temperature; as they are where it is 1."""
    return prob if temperature == 1 else np.exp(_log(prob, temperature)).astype(np.float32)


def fit_temperature(prob: np.ndarray, target: np.ndarray) -> float:
    """Return the temperature of least mean negative log-likelihood (Guo et al. 2017, section 4.2); 1 where all
    predictions are right, since the likelihood then has no maximum.
    """
    if (prob.argmax(1) == target).all():
        return 1.0
    rows = np.arange(len(target))
    found: Any = minimize_scalar(
        lambda log: -_log(prob, np.exp(log))[rows, target].mean(), bounds=np.log(TEMPERATURES), method="bounded"
    )
    return float(np.exp(found.x))


def reliability(prob: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return count, mean confidence and accuracy of each bin of confidence; NaN where a bin is empty."""
    confidence, right = prob.max(1), prob.argmax(1) == target
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    count = np.bincount(place, minlength=BINS)
    with np.errstate(invalid="ignore"):
        sums = (np.bincount(place, weights=values, minlength=BINS) for values in (confidence, right))
        mean, accuracy = (total / count for total in sums)
    return count, mean, accuracy


def calibration_error(prob: np.ndarray, target: np.ndarray) -> float:
    """Return the expected calibration error: the bins' mean |accuracy - confidence|, weighted by their counts."""
    count, mean, accuracy = reliability(prob, target)
    there = count > 0
    return float((count[there] * np.abs(accuracy - mean)[there]).sum() / count.sum())


def choose_threshold(score: np.ndarray, target: np.ndarray) -> float | None:
    """Return the probability of the second class from which on to predict it, for the best balanced accuracy.

    Of equals the nearest to 0.5 is taken, half-way to the next lower score. None where a class is missing.

    Args:
        score: probability of the second class, [examples].
        target: 0 or 1, [examples].
    """
    if len(set(target.tolist())) < 2:
        return None
    false, true, cuts = roc_curve(target, score, drop_intermediate=False)
    gain = true[1:] - false[1:]  # the first predicts nothing; balanced accuracy is (1 + gain) / 2
    lower = np.append(cuts[2:], 0.0)
    middles = (cuts[1:] + lower) / 2
    best = np.flatnonzero(gain >= gain.max() - 1e-12)
    for i in best:
        if lower[i] < 0.5 <= cuts[i + 1]:
            return 0.5  # as good as any, and what everybody expects
    return float(middles[best[np.argmin(np.abs(middles[best] - 0.5))]])


def labels(prob: np.ndarray, threshold: float | None = None) -> np.ndarray:
    """Return the predicted classes: the likeliest, or the second of two where it reaches a threshold."""
    return prob.argmax(1) if threshold is None else (prob[:, 1] >= threshold).astype(np.int64)


def calibrate(prob: np.ndarray, target: np.ndarray) -> dict[str, Any]:
    """Return what the record keeps of a validation: temperature, calibration error before and after it, and, for two
    classes, the threshold on the probability after it.

    The temperature stays 1 where the one of least loss makes the calibration error greater; 'temperature_tried' and
    'ece_tried' then say so.
    """
    temperature = fit_temperature(prob, target)
    after = with_temperature(prob, temperature)
    tried: dict[str, float] = {}
    if (error := calibration_error(after, target)) > calibration_error(prob, target):
        tried = {"temperature_tried": temperature, "ece_tried": error}
        temperature, after = 1.0, prob
    chosen = {
        "temperature": temperature,
        "threshold": choose_threshold(after[:, 1], target) if prob.shape[1] == 2 else None,
    }
    return chosen | judge(prob, target, chosen) | tried


def judge(prob: np.ndarray, target: np.ndarray, chosen: Mapping[str, Any]) -> dict[str, float]:
    """Return what a temperature and a threshold give: the calibration error before and after, and the balanced
    accuracy of the likeliest class and, for two, by the threshold.
    """
    after = with_temperature(prob, chosen["temperature"])
    found = {"ece_before": calibration_error(prob, target), "ece_after": calibration_error(after, target)}
    if chosen["threshold"] is not None:
        found["balanced_acc_before"] = balanced_accuracy(labels(prob), target)
        found["balanced_acc_threshold"] = balanced_accuracy(labels(after, chosen["threshold"]), target)
    return found


def balanced_accuracy(label: np.ndarray, target: np.ndarray) -> float:
    """Return the mean recall of the classes that there are."""
    return float(np.mean([(label[target == name] == name).mean() for name in np.unique(target)]))


def best_f1_threshold(score: np.ndarray, target: np.ndarray) -> float:
    """Return the probability from which on to give a label, for the best F1, half-way to the next lower score.

    Of equals the nearest to 0.5 is taken. 0.5 where no example has the label.

    Args:
        score: probability of the label, [examples].
        target: whether an example has it, [examples].
    """
    if not target.any():
        return 0.5
    precision, recall, cuts = precision_recall_curve(target, score)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    lower = np.concatenate([[0.0], cuts[:-1]])
    best = np.flatnonzero(f1[:-1] >= f1[:-1].max() - 1e-12)
    if any(lower[i] < 0.5 <= cuts[i] for i in best):
        return 0.5
    middles = (cuts + lower)[best] / 2
    return float(middles[np.argmin(np.abs(middles - 0.5))])
