"""A run as its card reads it: the record, the saved predictions, its children, and its other seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from src.answers import Predicted
from src.configs.errors import InputError
from src.configs.spec import DataSpec
from src.explain import kept
from src.explain.card.intervals import Scores, scores_of
from src.explain.kept import Kept
from src.explain.places import place_of, source_shown
from src.inference.predictor import parts_of
from src.runs import records, state
from src.runs.compare import groups, runs
from src.tasks.objectives import Objective, default_objective

SPLITS = ("test", "folds", "val")
"""Whose predictions are looked for: what the training has seen least comes first."""
NAMES = {"folds": "out of fold", "val": "validation", "test": "test"}
Kind = Literal["image", "text", "table", "example"]


@dataclass(frozen=True, eq=False)
class Evaluated:
    """Saved predictions of a split."""

    split: str
    rows: pd.DataFrame
    """As they are in the file; all cells are text."""
    objective: Objective
    predicted: Predicted
    target: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def scores(self) -> Scores:
        return scores_of(self.objective.spec.target.kind, self.predicted, self.target)


@dataclass(frozen=True, eq=False)
class Reported:
    """A finished run.

    Attributes:
        run: its directory.
        record: its `run.json`.
        members: the runs that predict: itself, or its children.
        first: the record of the first of these, which has all that a parent's leaves out.
        spec: of the data.
        evaluated: saved predictions, in the order of `SPLITS`.
        seeds: all finished runs with the same settings, its own included; empty for children and parents.
        checked: method -> what the checks of the explanations of the first member said, the latest last.
    """

    run: Path
    record: dict[str, Any]
    members: list[Path]
    first: dict[str, Any]
    spec: DataSpec
    evaluated: list[Evaluated]
    seeds: list[runs.Run]
    checked: dict[str, Kept]

    @property
    def name(self) -> str:
        return self.record["experiment"].rpartition(".")[2]

    @property
    def data(self) -> dict[str, Any]:
        """What the record says of the data; of a source on this machine the own name alone."""
        data = self.record["data"]
        return data | {"source": source_shown(data["source"])}

    @property
    def where(self) -> Path:
        """The run's directory from here, or from the folder of all runs where that is elsewhere."""
        return place_of(self.run)

    @property
    def input(self) -> Kind:
        """What is predicted from; 'example' for data of one's own."""
        if self.spec.vocab_size:
            return "text"
        if len(self.spec.input_shape) == 3:
            return "image"
        return "table" if self.spec.numbers or self.spec.categories else "example"

    @cached_property
    def known(self) -> Scores:
        """Scores with intervals, by metrics of the record such as 'val/acc'; without those of `strange`."""
        return {name: score for name, score in self._scores.items() if name not in self.strange}

    @cached_property
    def strange(self) -> dict[str, float]:
        """Metrics of the record that its saved predictions do not have -> what they have."""
        pairs = ((name, self.record["metrics"].get(name), score.value) for name, score in self._scores.items())
        return {name: own for name, then, own in pairs if then is not None and not _alike(then, own)}

    @cached_property
    def _scores(self) -> Scores:
        return {f"{each.split}/{name}": score for each in self.evaluated for name, score in each.scores.items()}

    @property
    def group_column(self) -> str:
        """The column whose rows the splits keep together, '' for none."""
        columns = self.record["fields"].get("columns")
        return columns.get("group", "") if isinstance(columns, dict) else ""


def _alike(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-3, abs_tol=1e-3) or (math.isnan(one) and math.isnan(other))


def read(run: Path) -> Reported:
    """Return a run that is done.

    Raises:
        InputError: it is no run, not done, or damaged.
    """
    found = runs.read(run)
    record, now = found.record, found.state
    if now == "running":
        raise InputError(f"{run}: the run is at work, and a card is of one that is done. Wait for it.")
    if now != "done":
        reason = f" ({record['reason']})" if record.get("reason") else ""
        raise InputError(
            f"{run}: the run {state.in_words(now)}{reason}, and a card is of one that is done. Go on with it: "
            f"python scripts/run.py --resume {run}"
        )
    members = parts_of(run, record, [])
    first = record if members == [run] else runs.read(members[0]).record
    with records.explain_record_errors(run, record):
        spec = records.spec_of(first)
        for name in ("data", "metrics", "wall_s"):
            record[name]
        for name in ("model", "weights", "device", "precision", "steps"):
            first[name]
    checked = kept.read(members[0])
    return Reported(run, record, members, first, spec, _evaluated(run, spec), _seeds(run, record), checked)


def _evaluated(run: Path, spec: DataSpec) -> list[Evaluated]:
    """Return the predictions that are there; none of a module whose outputs are not known."""
    if spec.target.kind != "regression" and spec.num_classes < (2 if spec.target.kind == "single_label" else 1):
        return []
    objective, found = default_objective(spec), list[Evaluated]()
    for split in SPLITS:
        path = run / f"predictions_{split}.csv"
        if not path.is_file():
            continue
        try:
            rows = pd.read_csv(path, dtype=str, keep_default_na=False)
            predicted, target = objective.read(rows)
            rows["id"]
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path}: cannot be read as the run's predictions ({error}).") from error
        if len(rows):
            found.append(Evaluated(split, rows, objective, predicted, target))
    return found


def _seeds(run: Path, record: dict[str, Any]) -> list[runs.Run]:
    """Return the finished runs beside a run that differ from it in nothing but the seed."""
    if "fold" in record or state.CHILD.fullmatch(run.resolve().name):
        return []
    beside: list[runs.Run] = []
    for path in sorted(run.resolve().parent.glob("*/run.json")):
        try:
            beside.append(runs.read(path.parent))
        except (InputError, OSError):
            continue  # `compare.py` says so
    for block in groups.compare(beside):
        for group in block.groups:
            if any(one.path == run.resolve() for one in group.runs):
                return group.counted
    return []
