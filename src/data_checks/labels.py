"""Labels that are likely wrong: what a cheap model, which has not seen them, thinks of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline

from src.configs import shown
from src.data_checks.findings import Examples, Finding
from src.training.baselines import estimators

FOLDS = 5
WEAK = 0.5
"""Of the way from chance to perfect: a model that gets less far cannot say which labels are wrong."""
SURE = 0.02
"""Probability of the given label up to which --fix leaves the example out of train. Of labels swapped on purpose (2 %
of some thousand photographs and digits) two thirds had it; of what had it, more than nine in ten were swapped."""
FAR = 10.0
"""A number this many deviations (from the median absolute error) off its prediction may be a slip."""


class Evidence(NamedTuple):
    """What a model is fitted to."""

    name: str
    inputs: Any
    """Of all examples: rows of numbers, texts, or a table."""


def wrong_targets(examples: Examples, evidence: Evidence) -> Iterator[tuple[str, list[Finding]]]:
    """Yield what was done, and the targets that are likely wrong; for several labels an example one label at a time."""
    match examples.kind:
        case "regression":
            yield wrong_numbers(examples, evidence)
        case "single_label":
            yield wrong_classes(examples, evidence)
        case "multi_label":
            for number in (chosen := examples.commonest_labels()):
                name = examples.classes[number]
                said, findings = wrong_classes(examples.of_label(number), evidence)
                yield f"label {name}: {said}", [replace(one, title=f"label {name}: {one.title}") for one in findings]
            if others := len(examples.classes) - len(chosen):
                yield f"{others} labels: not checked one by one, rarer or of all examples", []


def wrong_classes(examples: Examples, evidence: Evidence) -> tuple[str, list[Finding]]:
    """Return what was done, and the labels that confident learning (Northcutt et al. 2021, arXiv 1911.00068) doubts.

    Each example's probabilities come from a model that was fitted to other folds. --fix leaves out the surest of train
    alone: without the hard ones in val and test, the score would be better than the model is.
    """
    from cleanlab.filter import find_label_issues

    counts = np.bincount(examples.target, minlength=len(examples.classes))
    rows = np.flatnonzero(counts[examples.target] >= FOLDS)
    kept, target = np.unique(examples.target[rows], return_inverse=True)
    if len(kept) < 2:
        return f"labels: not checked, fewer than two classes have {FOLDS} examples", []
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    prob = out_of_fold(evidence, rows, target, folds, "predict_proba")
    recall = [(prob[target == k].argmax(1) == k).mean() for k in range(len(kept))]
    right, chance = float(np.mean(recall)), 1 / len(kept)
    if (right - chance) / (1 - chance) < WEAK:
        return (
            f"labels: not checked, {evidence.name} is right for {right:.0%} only and cannot tell (a pretrained "
            "backbone, as of experiments/images.py, sees more)"
        ), []
    # 'both': doubted by the paper's "prune by class" and "prune by noise rate" alike (section 3.2).
    doubted = np.asarray(find_label_issues(target, prob, filter_by="both", n_jobs=1))
    given = prob[np.arange(len(target)), target]
    worst = np.flatnonzero(doubted)[given[doubted].argsort(kind="stable")]
    said = f"labels: {evidence.name}, fitted to four fifths at a time, is right for {right:.1%} of the rest"
    if not len(worst):
        return said, []
    reasons = {
        int(rows[i]): f"labelled {examples.label(int(rows[i]))}, "
        f"looks like {examples.classes[kept[prob[i].argmax()]]} ({prob[i].max():.3f})"
        for i in worst
    }
    sure = [
        examples.entry(int(rows[i]), f"likely not {examples.label(int(rows[i]))} ({given[i]:.3f})")
        for i in worst
        if given[i] <= SURE and examples.split_of(int(rows[i])) == "train"
    ]
    title = f"labels that are likely wrong, or hard: {len(worst)} of {len(rows)}"
    lines = tuple(f"{examples.name(position)} {why}" for position, why in reasons.items())
    about = tuple(examples.entry(position, why) for position, why in reasons.items())
    return said, [Finding(title, examples=lines, leave_out=tuple(sure), about=about)]


def wrong_numbers(examples: Examples, evidence: Evidence) -> tuple[str, list[Finding]]:
    """Return what was done, and the targets that are far from what a model fitted to other rows predicts."""
    rows = np.arange(len(examples))
    if len(rows) < 10 * FOLDS:
        return f"targets: not checked, {len(rows)} rows are too few", []
    values = examples.target.astype(float)
    log = bool((values > 0).all())  # errors of prices are factors
    scaled = np.log(values) if log else values
    mean, deviation = scaled.mean(), scaled.std() or 1.0  # gradient boosting stops by absolute errors
    scaled = (scaled - mean) / deviation
    folds = KFold(FOLDS, shuffle=True, random_state=0)
    error = scaled - out_of_fold(evidence, rows, scaled, folds, "predict")
    middle = np.median(error)
    off = np.abs(error - middle) / max(1.4826 * np.median(np.abs(error - middle)), 1e-12)
    odd = np.flatnonzero(off > FAR)
    said = f"targets: compared with what {evidence.name}, fitted to four fifths at a time, predicts"
    if not len(odd):
        return said, []
    predicted = (scaled - error) * deviation + mean
    predicted = np.exp(predicted) if log else predicted
    worst = odd[off[odd].argsort(kind="stable")[::-1]]
    reasons = {int(i): "{}, predicted {}".format(*shown.apart(float(values[i]), float(predicted[i]))) for i in worst}
    title = f"targets far from what the other rows let expect, slips or rare cases: {len(odd)}"
    lines = tuple(f"{examples.name(position)}: {why}" for position, why in reasons.items())
    about = tuple(examples.entry(position, f"target {why}") for position, why in reasons.items())
    return said, [Finding(title, examples=lines, about=about)]


def out_of_fold(evidence: Evidence, rows: np.ndarray, target: np.ndarray, folds: Any, method: str) -> np.ndarray:
    """Return the predictions of each row by a model fitted to the other folds.

    What a pipeline does before its last step looks at no target, so it is done once.
    """
    inputs = evidence.inputs.iloc[rows] if isinstance(evidence.inputs, pd.DataFrame) else evidence.inputs
    if isinstance(inputs, list):
        inputs = [inputs[row] for row in rows]
    elif not isinstance(inputs, pd.DataFrame):
        inputs = inputs[rows]
    model = list(estimators(inputs, "regression" if method == "predict" else "single_label").values())[-1]
    if isinstance(model, Pipeline):
        inputs, model = model[:-1].fit_transform(inputs), model[-1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = np.asarray(cross_val_predict(model, inputs, target, cv=folds, method=method))
        while isinstance(model, LogisticRegression):  # too little penalty, and it is sure where it has no reason to be
            model = LogisticRegression(C=model.C / 10, max_iter=1000)
            other = np.asarray(cross_val_predict(model, inputs, target, cv=folds, method=method))
            if log_loss(target, other) >= log_loss(target, found):
                break
            found = other
    return found
