"""Whether a run's answers are worth an explanation."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import ttest_rel

from src.configs.errors import InputError
from src.tasks import Objective

SIGNIFICANT = 0.05
"""Chance, at the most, that a guess would err as little as the run."""


class Judged(NamedTuple):
    """What a run predicted on its validation split."""

    ids: list[str]
    predicted: dict[str, np.ndarray]
    target: np.ndarray


def read_predictions(run: Path, objective: Objective) -> Judged:
    """Return what the run predicted on its validation split, or the part of it that it looked at.

    Raises:
        InputError: the run has not come so far.
    """
    path = run / "predictions_val.csv"
    if not path.is_file():
        raise InputError(f"{path}: not there; only a run that is done has judged its validation split.")
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    return Judged(rows["id"].tolist(), *objective.read(rows))


def doubts(predicted: dict[str, np.ndarray], target: np.ndarray) -> list[str]:
    """Return why the answers of a run explain nothing; empty where they may.

    The errors on the validation split are compared, example by example, with those of the best constant answer: the
    commonest class, each label's commoner value, or the mean. A one-sided paired t-test tells them apart.

    Args:
        predicted: as `Objective.predictions` names it.
        target: [examples] or [examples, labels].
    """
    if "prob" not in predicted:
        own, constant = (predicted["prediction"] - target) ** 2, (target.mean() - target) ** 2
    elif target.ndim == 2:
        chosen, common = predicted["prob"] >= 0.5, target.mean(0) >= 0.5
        own, constant = (chosen != target).mean(1), (common != target).mean(1)
    else:
        own = predicted["prob"].argmax(1) != target
        constant = np.bincount(target.astype(int)).argmax() != target
    difference = constant.astype(float) - own.astype(float)
    if np.ptp(difference) == 0:
        better = difference.mean() > 0
    else:
        better = ttest_rel(constant.astype(float), own.astype(float), alternative="greater").pvalue < SIGNIFICANT
    if better:
        return []
    return [f"on its {len(target)} validation examples the run is no better than one constant answer"]
