"""Whether a run's answers are worth an explanation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from src.configs.errors import InputError
from src.runs import state
from src.tasks import Objective

SURE = 1.645
"""Standard errors above a constant answer from which on a run is better than that, with 95 %."""
FEW = 20
"""Examples below which a run may be better though that cannot be told."""


class Judged(NamedTuple):
    """What a run predicted on its validation split."""

    ids: list[str]
    predicted: dict[str, np.ndarray]
    target: np.ndarray


def read_predictions(run: Path, objective: Objective) -> Judged:
    """Return what the run predicted on its validation split, or the part of it that it looked at.

    Raises:
        InputError: that is not in the run's directory.
    """
    path = run / "predictions_val.csv"
    if not path.is_file():
        raise InputError(f"{path}: not there, so it is not known what the run answers on its validation split.")
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    return Judged(rows["id"].tolist(), *objective.read(rows))


def doubts_of(run: Path, record: Mapping[str, Any], objective: Objective) -> tuple[list[str], list[str]]:
    """Return why the answers of a run explain nothing, and why that is not known; see `doubts`."""
    now = state.state_of(run, record)
    if now != "done":
        return [], [f"the run {state.in_words(now)}, so that nothing tells whether its answers are better than a guess"]
    try:
        _, predicted, target = read_predictions(run, objective)
    except InputError as error:
        return [], [f"nothing tells whether the run's answers are better than a guess: {error}"]
    return doubts(predicted, target, objective.decide(predicted, record.get("calibration", {}))), []


def doubts(predicted: Mapping[str, np.ndarray], target: np.ndarray, decided: np.ndarray | None = None) -> list[str]:
    """Return why the answers of a run explain nothing; empty where they may.

    They are compared with the best constant answer: of classes and labels the balanced accuracy, which that leaves at
    one share, of numbers the squared error of each, which is that from the mean.

    Args:
        predicted: as `Objective.predictions` names it.
        target: [examples] or [examples, labels].
        decided: which labels are given, bool [examples, labels]; without it every label from 0.5 on.
    """
    if "prob" not in predicted:
        gain = (target.mean() - target) ** 2 - (predicted["prediction"] - target) ** 2
        gained, error = gain.mean(), gain.std(ddof=1) / math.sqrt(len(gain)) if len(gain) > 1 else 0.0
    elif target.ndim == 2:
        chosen = predicted["prob"] >= 0.5 if decided is None else decided
        both = [label for label in range(target.shape[1]) if 0 < target[:, label].mean() < 1]
        found = [_above_constant(chosen[:, label], target[:, label].astype(int)) for label in both]
        gained, error = (np.mean([one[0] for one in found]), np.mean([one[1] for one in found])) if found else (1, 0)
    else:
        gained, error = _above_constant(predicted["prob"].argmax(1), target.astype(int))
    if gained > 0 and (gained > SURE * error or len(target) < FEW):
        return []
    return [f"on its {len(target)} validation examples the run is no better than one constant answer"]


def _above_constant(answer: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Return by how much the balanced accuracy is above that of a constant answer, and its standard error."""
    classes = np.unique(target)
    right = [answer[target == one] == one for one in classes]
    shares = [(each.sum() + 1) / (len(each) + 2) for each in right]  # so that few that are all right are not sure
    error = math.sqrt(sum(p * (1 - p) / len(each) for p, each in zip(shares, right, strict=True))) / len(classes)
    return float(np.mean([each.mean() for each in right]) - 1 / len(classes)), error
