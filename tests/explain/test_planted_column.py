"""A table with one column that gives the target away: the explanations rank it first, and the data check names it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from conftest import own_home
from table_runs import FIELDS

from experiments.tables import TableClassification, TableRegression
from src.data_checks import check
from src.datamodules import Table
from src.experiment import Experiment, Optim, Perceptron
from src.explain.overall import overall
from src.explain.shapley import kernel_shap, permutation
from src.explain.subject import Subject
from src.explain.table_gradients import integrated_gradients
from src.explain.tables import TableExample, background, read
from src.inference.own_data import data_of, moved_to
from src.inference.predictor import load_run
from src.training import runner
from src.training.build import build_parts
from src.training.trainer import quieten

ROWS = 700
KINDS: tuple[type[Experiment], ...] = (TableClassification, TableRegression)


class Planted(NamedTuple):
    experiment: Experiment
    subject: Subject
    datamodule: Table
    examples: list[TableExample]
    """200 rows that the network has not seen."""


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.predicts)
def planted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Planted:
    kind: Any = request.param
    rng = np.random.default_rng(0)
    number = kind is TableRegression
    frame = pd.DataFrame({f"x{i}": rng.normal(size=ROWS) for i in range(6)})
    frame["town"] = rng.choice(["Ghent", "Leyden", "Utrecht"], ROWS)
    target = frame["x0"] + (frame["town"] == "Ghent") + rng.normal(size=ROWS)
    target = target if number else (target > target.median()).astype(int)
    frame.insert(3, "leak", target + rng.normal(0, 0.05, ROWS))
    frame["target"] = target if number else np.where(target, "yes", "no")
    path = tmp_path_factory.mktemp("planted") / "planted.csv"
    frame[200:].to_csv(path, index=False)
    brief: dict[str, Any] = {"max_epochs": 12, "batch_size": 32, "mlp": Perceptron(width=32, depth=1, bins=8)}
    experiment = kind(data_dir=path, optim=Optim(lr=0.01, weight_decay=0.1), **brief, **FIELDS)
    with own_home(tmp_path_factory.mktemp("home")):
        run = runner.run(experiment)
        experiment, spec, task = load_run(run)
        datamodule = data_of(run, moved_to(experiment, None))
    assert isinstance(datamodule, Table)
    examples, _, _ = read(datamodule, spec, [frame[:200].reset_index(drop=True)], background(datamodule))
    return Planted(experiment, Subject(task), datamodule, examples)


@pytest.mark.parametrize(
    ("method", "rows"),
    [
        (kernel_shap, 40),
        (integrated_gradients, 40),
        *(pytest.param(one, 200, marks=pytest.mark.slow) for one in (kernel_shap, permutation, integrated_gradients)),
    ],
)
def test_the_column_is_ranked_first(planted: Planted, method: Any, rows: int) -> None:
    examples = planted.examples[:rows]
    assert len(examples) == rows
    found = method(planted.subject, examples, planted.subject.likeliest(examples))
    place = examples[0].names.index("leak")
    first = [np.abs(one.values).argmax() == place for one in found]
    assert np.mean(first) >= 0.95


def test_the_global_view_and_the_data_check_name_it(planted: Planted) -> None:
    found = overall(planted.subject, planted.datamodule, repeats=3)
    assert (found.importances[0].column, found.dependences[0].column) == ("leak", "leak")
    assert found.importances[0].interval[0] > found.importances[1].interval[1]
    quieten()
    report = check(planted.experiment, *build_parts(planted.experiment))
    (named,) = [finding.title for finding in report.worst_first() if "gives the target away" in finding.title]
    assert named.startswith("column leak alone gives the target away")
