"""What a table's run looks at, over all rows: permutation importance and partial dependence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import t as student
from sklearn.metrics import accuracy_score, f1_score, r2_score
from torch import Tensor

from src.configs.spec import DataSpec, TargetKind
from src.datamodules import Table
from src.datamodules.tables.cells import words
from src.datamodules.tables.kinds import Column
from src.datamodules.tables.table_files import from_frame
from src.explain.subject import Subject
from src.explain.tables import Places, measured

MOST_ROWS = 500
"""Rows of the validation split that are looked at; of more, as many at even distances."""
REPEATS = 10
"""Times that a column is shuffled."""
TOP = 6
"""Columns whose partial dependence is found."""
GRID = 20
"""Values of a column that are tried."""
CERTAIN = 0.95
METRICS: dict[TargetKind, str] = {"single_label": "acc", "multi_label": "f1_micro", "regression": "r2"}


@dataclass(frozen=True)
class Importance:
    """What a column is worth: how far the score drops where its cells are shuffled among the rows (Breiman 2001,
    https://doi.org/10.1023/A:1010933404324)."""

    column: str
    drop: float
    """Mean over the repeats."""
    interval: tuple[float, float]
    """95 %, Student's over the repeats: what the shuffling leaves open, not the choice of the rows."""


@dataclass(frozen=True, eq=False)
class Dependence:
    """What is answered where every row has one value in a column (Friedman 2001,
    https://doi.org/10.1214/aos/1013203451), with a line for each row (Goldstein et al. 2015, arXiv 1309.6392)."""

    column: str
    grid: tuple[str, ...]
    """The values, as they stand in the table: quantiles of a number or a date, ascending; the commonest categories."""
    places: np.ndarray | None
    """The same as numbers, float64 [values]; dates are days since 1970; None for categories."""
    lines: np.ndarray
    """Answers, float64 [rows, values]: the probability of the target, or the number in its own unit."""

    @property
    def mean(self) -> np.ndarray:
        """Partial dependence, float64 [values]."""
        return self.lines.mean(0)


@dataclass(frozen=True, eq=False)
class Overall:
    """What a run of a table looks at, over its validation split."""

    metric: str
    """acc, f1_micro or r2, as in the run's own metrics."""
    score: float
    """Of the rows as they are."""
    rows: int
    """That were looked at."""
    repeats: int
    target: str
    """The class or label whose probability the lines show; 'prediction' for a number."""
    importances: tuple[Importance, ...]
    """Of the columns that were shuffled, those that are worth most first."""
    dependences: tuple[Dependence, ...]
    """Of the columns that are worth most."""
    left_out: tuple[str, ...] = ()
    """What there was no time for."""


def overall(
    subject: Subject,
    datamodule: Table,
    target: int | None = None,
    *,
    repeats: int = REPEATS,
    seed: int = 0,
    enough: Callable[[], bool] = lambda: False,
) -> Overall:
    """Look at the validation split of a table's run, `MOST_ROWS` of it at the most.

    Args:
        subject: the run's network.
        datamodule: its data, set up as recorded.
        target: class or label whose partial dependence is found; by default the second of two classes, else the
            commonest.
        repeats: times that each column is shuffled.
        seed: of the shuffling.
        enough: says whether the time is up; one column at least is shuffled.
    """
    spec, count = subject.spec, len(datamodule.targets("val"))
    target = _asked(spec) if target is None else target
    rows = np.unique(np.linspace(0, count - 1, min(MOST_ROWS, count)).round().astype(int))
    columns = datamodule.preparation(spec).encoder.columns
    split = _Split(subject, datamodule, rows)
    generator = np.random.default_rng(seed)
    base = split.score(split.numbers, split.categories)
    importances: dict[str, Importance] = {}
    for place, column in enumerate(columns):
        if importances and enough():
            break
        shuffled = [split.with_cells_of(generator.permutation(len(rows)), place) for _ in range(repeats)]
        drops = [base - split.score(*tensors) for tensors in shuffled]
        importances[column.name] = Importance(column.name, float(np.mean(drops)), _interval(drops))
    ranked = sorted(importances.values(), key=lambda one: -one.drop)
    top = [next(i for i, column in enumerate(columns) if column.name == one.column) for one in ranked[:TOP]]
    found: list[Dependence] = []
    for place in top:
        if enough():
            break
        found.append(split.dependence(columns[place], place, target))
    shown = spec.classes[target] if spec.classes else "prediction"
    metric = METRICS[spec.target.kind]
    left_out: list[str] = []
    if len(ranked) < len(columns):
        left_out.append(f"the importance of the last {len(columns) - len(ranked)} of {len(columns)} columns")
    if len(found) < len(top):
        left_out.append(f"the partial dependence of {len(top) - len(found)} of {len(top)} columns")
    varied = tuple(one for one in found if len(one.grid) > 1)
    return Overall(metric, base, len(rows), repeats, shown, tuple(ranked), varied, tuple(left_out))


def _asked(spec: DataSpec) -> int:
    """Return the second of two classes, else the commonest class or label; 0 for a number."""
    if spec.num_classes == 2 and spec.target.kind == "single_label":
        return 1
    return int(np.argmax(spec.class_counts)) if spec.classes else 0


def _interval(drops: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the mean, by Student's distribution."""
    mean, repeats = float(np.mean(drops)), len(drops)
    if repeats < 2:
        return mean, mean
    half = float(student.ppf((1 + CERTAIN) / 2, repeats - 1)) * float(np.std(drops, ddof=1)) / repeats**0.5
    return mean - half, mean + half


class _Split:
    """Rows of the validation split, whose cells can be exchanged."""

    def __init__(self, subject: Subject, datamodule: Table, rows: np.ndarray) -> None:
        dataset: Any = datamodule.dataset("val", train=False)
        batch = dataset[rows.tolist()]
        self.subject = subject
        self.numbers: Tensor = batch["numbers"]
        self.categories: Tensor = batch["categories"]
        self.true: np.ndarray = batch["target"].numpy()
        self.places = Places.of(datamodule.preparation(subject.spec).encoder)
        self.plain = datamodule.baseline_inputs("val").iloc[rows]
        (frame,) = datamodule.raw_inputs("val", rows.tolist())
        assert isinstance(frame, pd.DataFrame)
        self.table = from_frame(frame)

    def with_cells_of(self, donors: np.ndarray, place: int) -> tuple[Tensor, Tensor]:
        """Return all rows, [rows, ...], that have in one column what the donors have: a number with its missing
        indicator, a date with all its parts."""
        tensors: list[Tensor] = []
        for tensor, places in ((self.numbers, self.places.numbers), (self.categories, self.places.categories)):
            there = np.flatnonzero(places == place).tolist()
            changed = tensor.clone()
            changed[:, there] = tensor[donors][:, there]
            tensors.append(changed)
        return tensors[0], tensors[1]

    @torch.no_grad()
    def score(self, numbers: Tensor, categories: Tensor) -> float:
        """Return the accuracy, the micro F1 or R2 of rows with the targets of the split."""
        outputs = self.subject.outputs((numbers, categories))
        found = {name: values.numpy() for name, values in self.subject.task.objective.predictions(outputs).items()}
        match self.subject.spec.target.kind:
            case "single_label":
                return float(accuracy_score(self.true, found["prob"].argmax(1)))
            case "multi_label":
                labels = found["prob"] >= 0.5
                return float(f1_score(self.true, labels, average="micro", zero_division=0.0))  # pyright: ignore[reportArgumentType]
            case "regression":
                return float(r2_score(self.true, found["prediction"]))

    @torch.no_grad()
    def dependence(self, column: Column, place: int, target: int) -> Dependence:
        """Return the answers of all rows with some values of a column, each as a row of the split has it."""
        cells = np.array(words(self.table[column.name]), dtype=object)
        if column.kind in ("number", "date"):
            values = self.plain[measured(column)].to_numpy(float)
            donors = _quantiles(values)
            numbers = values[donors]
        else:
            _, first, counts = np.unique(cells, return_index=True, return_counts=True)
            donors, numbers = first[np.argsort(-counts, kind="stable")[:GRID]], None
        targets = torch.full((len(cells),), target)
        lines = [self.subject.score(self.with_cells_of(np.full(len(cells), d), place), targets) for d in donors]
        stacked = torch.stack(lines, 1).double().numpy() if lines else np.zeros((len(cells), 0))
        return Dependence(column.name, tuple(cells[donors].tolist()), numbers, stacked)


def _quantiles(values: np.ndarray) -> np.ndarray:
    """Return rows with different values at even distances among those that have one, in ascending order."""
    order = np.argsort(values, kind="stable")[: int((~np.isnan(values)).sum())]  # NaN comes last
    rows = order[np.unique(np.linspace(0, len(order) - 1, min(GRID, len(order))).round().astype(int))]
    return rows[np.unique(values[rows], return_index=True)[1]]
