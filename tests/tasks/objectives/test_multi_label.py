"""Several labels: loss and metrics by definition, thresholds that nothing beats, and a CSV that reads back the same."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Trainer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    hamming_loss,
    log_loss,
    precision_recall_fscore_support,
)
from torch import Tensor, nn
from typing_extensions import override

from experiments.tables import TableMultiLabel
from src.configs.labels import split_labels
from src.datamodules import Tensors
from src.experiment import DataSpec, InputError, Optim, Target
from src.inference.batch import predict
from src.models import Linear
from src.models.regressions import FOLDS, deal
from src.runs import records
from src.runs.predictions import predictions_csv
from src.studies.ensemble import ensemble
from src.tasks import Input, MultiLabel, Task
from src.tasks.inputs import TableInput
from src.tasks.objectives import default_objective
from src.tasks.objectives.calibration import best_f1_threshold
from src.training import runner
from src.training.options import RunOptions
from src.training.trainer import quieten

LABELS = ("bug", "billing", "a, b", 'very "odd"')
SPEC = DataSpec(classes=LABELS, target=Target(kind="multi_label", name="labels"))


class Given(Input):
    """A network's outputs: the scores of known predictions."""

    @override
    def tensors(self, batch: Any, dtype: torch.dtype) -> tuple[Tensor]:
        return (batch["outputs"],)


@pytest.fixture
def objective() -> MultiLabel:
    return MultiLabel(SPEC)


def known(count: int = 103) -> dict[str, Tensor]:
    """Return outputs that are right more often than not, with a rare label and examples without any."""
    rng = np.random.default_rng(5)
    target = rng.random((count, 4)) < (0.5, 0.3, 0.2, 0.07)
    outputs = rng.normal(size=(count, 4)) + 2.5 * target - (1, 1, 1.5, 2)
    return {
        "outputs": torch.tensor(outputs, dtype=torch.float32),
        "target": torch.tensor(target, dtype=torch.float32),
    }


def arrays(columns: dict[str, Tensor]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    return {"prob": columns["outputs"].sigmoid().numpy()}, columns["target"].numpy()


def scores(columns: dict[str, Tensor], stage: str) -> dict[str, float]:
    """Return the metrics of a validation or test in batches of 10, the last one shorter."""
    quieten()
    data = Tensors({"train": columns, "val": columns, "test": columns}, SPEC, batch_size=10)
    run = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    task = Task(nn.Identity(), MultiLabel(SPEC), Given(), Optim())
    (found,) = (run.validate if stage == "val" else run.test)(task, datamodule=data, verbose=False)
    return dict(found)


# ------------------------------------------------------------------------------------------------------ loss and scores
@settings(deadline=None)
@given(st.lists(st.tuples(*[st.floats(-20, 20, width=32)] * 2, *[st.booleans()] * 2), min_size=1, max_size=20))
def test_the_loss_is_the_mean_of_the_negative_log_probabilities(rows: list[tuple[Any, ...]]) -> None:
    table = np.array(rows, np.float64)
    outputs, target = table[:, :2], table[:, 2:]
    expected = np.where(target, np.logaddexp(0, -outputs), np.logaddexp(0, outputs)).mean()
    found = MultiLabel(DataSpec(classes=("a", "b"))).loss(torch.tensor(outputs).float(), torch.tensor(target).long())
    assert found.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_a_blended_target_has_the_blended_loss(objective: MultiLabel) -> None:
    columns = known()
    outputs, target = columns["outputs"], columns["target"]
    other, share = target.flip(0), 0.3
    blended = objective.loss(outputs, share * target + (1 - share) * other)
    expected = share * objective.loss(outputs, target) + (1 - share) * objective.loss(outputs, other)
    torch.testing.assert_close(blended, expected)
    assert objective.mixes_targets


@pytest.mark.parametrize("stage", ["val", "test"])
def test_metrics_are_those_of_scikit_learn(stage: str) -> None:
    columns = known()
    predicted, target = arrays(columns)
    prob = predicted["prob"].astype(np.float64)
    label = prob >= 0.5
    expected = {
        "loss": np.mean([log_loss(target[:, i], prob[:, i]) for i in range(4)]),
        "f1_micro": f1_score(target, label, average="micro"),
        "f1_macro": f1_score(target, label, average="macro"),
        "map": average_precision_score(target, prob, average="macro"),
        "exact_match": accuracy_score(target, label),
        "hamming": hamming_loss(target, label),
    }
    assert len({round(value, 6) for value in expected.values()}) == 6, "the premise: no two agree"
    expected = {f"{stage}/{name}": value for name, value in expected.items()}
    assert scores(columns, stage) == pytest.approx(expected, abs=1e-5)


def test_scores_of_saved_predictions_are_those_of_the_evaluation(objective: MultiLabel) -> None:
    columns = known()
    evaluated = scores(columns, "val")
    del evaluated["val/loss"]
    found = objective.score(*arrays(columns))
    assert {f"val/{name}": value for name, value in found.items()} == pytest.approx(evaluated)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(*[st.booleans()] * len(LABELS)), min_size=1, max_size=20), st.integers(0, 2**32 - 1))
def test_absent_labels_are_left_out(rows: list[tuple[bool, ...]], seed: int) -> None:
    quieten()
    true, rng = np.array(rows), np.random.default_rng(seed)
    prob = (0.55 * rng.random(true.shape) + 0.45 * true * rng.integers(0, 2, true.shape)).astype(np.float32)
    found = MultiLabel(SPEC).score({"prob": prob}, true.astype(np.float32))
    taken = prob >= 0.5
    there, known = np.flatnonzero(true.any(0)), np.flatnonzero((true | taken).any(0))
    precision = [average_precision_score(true[:, k], prob[:, k]) for k in there]
    f1 = [f1_score(true[:, k], taken[:, k]) for k in known]
    expected = {"map": np.mean(precision) if precision else np.nan, "f1_macro": np.mean(f1) if f1 else np.nan}
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-5, nan_ok=True)
    if len(known):  # scikit-learn returns NaN with a warning where no label can be scored
        judged = MultiLabel(SPEC).judge({"prob": prob}, true.astype(np.float32), {})
        assert judged["f1_macro_before"] == pytest.approx(expected["f1_macro"], abs=1e-5)


def test_a_label_that_no_example_has_is_no_warning() -> None:
    columns = known()
    columns["target"][:, 3] = 0
    predicted, target = arrays(columns)
    expected = average_precision_score(target[:, :3], predicted["prob"][:, :3], average="macro")
    assert scores(columns, "val")["val/map"] == pytest.approx(expected, abs=1e-5)
    report = MultiLabel(SPEC).report(predicted, target)["classes"][LABELS[3]]
    assert report["support"] == 0
    assert "average_precision" not in report


def test_the_mean_of_views_is_of_their_probabilities(objective: MultiLabel) -> None:
    views = 4 * torch.randn(5, 7, 4, generator=torch.Generator().manual_seed(0))
    mean = objective.predictions(objective.mean_outputs(views))["prob"]
    torch.testing.assert_close(mean, views.sigmoid().mean(0))
    certain = torch.tensor([[[60.0, -60.0]], [[60.0, -60.0]]])
    torch.testing.assert_close(objective.mean_outputs(certain), certain[0])


@pytest.mark.parametrize("strategy", ["weights", "sampler", "focal", "logit_adjust"])
def test_strategies_for_rare_classes_are_refused(objective: MultiLabel, strategy: Any) -> None:
    with pytest.raises(InputError, match=f"--imbalance {strategy}: MultiLabel does not predict one class"):
        objective.set_imbalance_strategy(strategy)
    objective.set_imbalance_strategy("none")


# ----------------------------------------------------------------------------------------------------------- thresholds
SCORES = st.one_of(st.floats(0, 1, width=32), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(SCORES, st.booleans()), min_size=1, max_size=25))
def test_no_threshold_has_a_better_f1(examples: list[tuple[float, bool]]) -> None:
    score, target = (np.array(column) for column in zip(*examples, strict=True))
    score = score.astype(np.float32)

    def f1(threshold: float) -> float:
        found: Any = f1_score(target, score.astype(np.float64) >= threshold, zero_division=0.0)  # pyright: ignore[reportArgumentType]
        return found

    chosen = best_f1_threshold(score, target)
    best = max(f1(cut) for cut in [*score.astype(np.float64), 2.0])
    if target.any():
        assert f1(chosen) == pytest.approx(best)
    assert 0 <= chosen <= 1
    if f1(0.5) == pytest.approx(best):
        assert chosen == 0.5, "of equals, what everybody expects"


@pytest.mark.parametrize(
    ("score", "target", "expected"),
    [
        ([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], 0.5),
        ([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1], 0.25),
        ([0.6, 0.7, 0.8, 0.9], [0, 0, 1, 1], 0.75),
        ([0.1, 0.2], [0, 0], 0.5),
        ([0.1, 0.2], [1, 1], 0.05),
    ],
)
def test_thresholds_by_hand(score: list[float], target: list[int], expected: float) -> None:
    assert best_f1_threshold(np.array(score), np.array(target) > 0) == pytest.approx(expected)


def test_each_label_has_its_own_threshold_and_decisions_use_it(objective: MultiLabel) -> None:
    predicted, target = arrays(known())
    predicted["prob"] = predicted["prob"] * (1, 0.3, 0.5, 0.4)
    chosen = objective.calibrate(predicted, target)
    assert list(chosen["thresholds"]) == list(LABELS)
    assert len(set(chosen["thresholds"].values())) == 4
    decided = objective.decide(predicted, chosen)
    cuts = np.array(list(chosen["thresholds"].values()))
    np.testing.assert_array_equal(decided, predicted["prob"] >= cuts)
    partial = objective.decide(predicted, {"thresholds": {"bug": 0.0}})
    assert partial is not None
    assert partial[:, 0].all()
    np.testing.assert_array_equal(partial[:, 1:], predicted["prob"][:, 1:] >= 0.5)
    np.testing.assert_array_equal(objective.decide(predicted, {}), predicted["prob"] >= 0.5)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_threshold_tells_neighbouring_numbers_apart(seed: int) -> None:
    low = np.random.default_rng(seed).random(1, np.float32)
    score, target = np.concatenate([low, np.nextafter(low, np.float32(1))]), np.array([[0.0], [1.0]])
    objective = MultiLabel(DataSpec(classes=("a",)))
    chosen = objective.calibrate({"prob": score[:, None]}, target)
    np.testing.assert_array_equal(objective.decide({"prob": score[:, None]}, chosen), target > 0.5)


def test_another_split_is_judged_by_the_thresholds_of_the_first(objective: MultiLabel) -> None:
    predicted, target = arrays(known(400))
    predicted["prob"] = predicted["prob"] * 0.5
    first, second = ({"prob": predicted["prob"][part]} for part in (slice(200), slice(200, None)))
    chosen = objective.calibrate(first, target[:200])
    judged = objective.judge(second, target[200:], chosen)
    decided = objective.decide(second, chosen)
    for average in ("micro", "macro"):
        before = f1_score(target[200:], second["prob"] >= 0.5, average=average, zero_division=0.0)  # pyright: ignore[reportArgumentType]
        after = f1_score(target[200:], decided, average=average)
        assert judged[f"f1_{average}_before"] == pytest.approx(before)
        assert judged[f"f1_{average}_thresholds"] == pytest.approx(after)
        assert after > before, "the premise: thresholds matter"
    assert set(judged) == {
        f"f1_{name}" for name in ("micro_before", "macro_before", "micro_thresholds", "macro_thresholds")
    }
    assert chosen["f1_macro_thresholds"] >= chosen["f1_macro_before"]


# ----------------------------------------------------------------------------------------------- predictions as a table
def read_back(objective: MultiLabel, text: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    return objective.read(pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False))


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 4, *[st.booleans()] * 4), min_size=1, max_size=8))
def test_a_csv_reads_back_the_same(rows: list[tuple[Any, ...]]) -> None:
    objective, table = MultiLabel(SPEC), np.array(rows, np.float32)
    prob, target = table[:, :4], table[:, 4:]
    ids = [str(row) for row in range(len(rows))]
    text = predictions_csv(ids, objective.columns({"prob": prob}), target=objective.target_column(target))
    predicted, true = read_back(objective, text)
    np.testing.assert_array_equal(predicted["prob"], prob)
    np.testing.assert_array_equal(true, target)
    assert predicted["prob"].dtype == true.dtype == np.float32


def test_columns_by_hand_and_an_example_without_a_label(objective: MultiLabel) -> None:
    prob = np.array([[0.9, 0.5, 0.1, 0.2], [0.1, 0.2, 0.3, 0.4]], np.float32)
    target = np.array([[0, 0, 0, 0], [1, 0, 0, 1]], np.float32)
    columns = objective.columns({"prob": prob}, digits=3)
    assert list(columns) == ["labels", *(f"prob_{name}" for name in LABELS)]
    assert columns["labels"] == ["bug;billing", ""]
    assert columns["prob_billing"] == ["0.5", "0.2"]
    assert objective.target_column(target) == ["", 'bug;very "odd"']
    decided = np.array([[False, True, False, False], [False, False, True, True]])
    assert objective.columns({"prob": prob}, decided=decided)["labels"] == ["billing", 'a, b;very "odd"']
    text = predictions_csv(["x", "y"], columns, target=objective.target_column(target))
    np.testing.assert_array_equal(read_back(objective, text)[1], target)


# --------------------------------------------------------------------------------------------------------------- report
def test_the_report_of_each_label_is_scikit_learns(objective: MultiLabel) -> None:
    predicted, target = arrays(known())
    expected: Any = precision_recall_fscore_support(target, predicted["prob"] >= 0.5)
    found = objective.report(predicted, target)["classes"]
    assert list(found) == list(LABELS)
    for i, label in enumerate(LABELS):
        for name, column in zip(("precision", "recall", "f1", "support"), expected, strict=True):
            assert found[label][name] == pytest.approx(column[i], abs=1e-6)
        own = average_precision_score(target[:, i], predicted["prob"][:, i])
        assert found[label]["average_precision"] == pytest.approx(own, abs=1e-6)


def test_figures_show_each_label_with_its_examples(objective: MultiLabel) -> None:
    predicted, target = arrays(known())
    ((name, figure),) = objective.figures(predicted, target, {})
    assert name == "labels"
    (axes,) = figure.axes
    ticks = [tick.get_text() for tick in axes.get_yticklabels()]
    counts = {int(target[:, i].sum()) for i in range(4)}
    assert {int(tick.rpartition("(")[2].rstrip(")")) for tick in ticks} == counts
    assert len(axes.patches) == 3 * 4


def test_the_worst_mistake_is_the_surest_one(objective: MultiLabel) -> None:
    prob = np.array(
        [[0.9, 0.1, 0.1, 0.1], [0.6, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.5], [0.8, 0.9, 0.1, 0.1]],
        np.float32,
    )
    target = np.array([[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0]], np.float32)
    positions, titles, targets = objective.mistakes({"prob": prob}, target, 16)
    assert sorted(positions[:2].tolist()) == [0, 1], "0.9 sure that it is, and that it is not"
    assert positions[2:].tolist() == [3], "a label is given from 0.5 on"
    told = dict(zip(positions.tolist(), titles, strict=True))
    assert told == {
        0: "no label, not bug",
        1: "billing, not bug",
        3: 'no label, not very "odd"',
    }
    bug, billing, odd = (objective.spec.classes.index(name) for name in ("bug", "billing", 'very "odd"'))
    assert dict(zip(positions.tolist(), targets.tolist(), strict=True)) == {0: bug, 1: billing, 3: odd}
    chosen = {"thresholds": {"bug": 0.95, "billing": 0.05}}
    found = objective.mistakes({"prob": prob}, target, 16, chosen)
    assert found.positions.tolist()[:2] == [3, 4], "the bug of 4 was at 0.8, and is not given"
    assert dict(zip(found.positions.tolist(), found.titles, strict=True)) == {
        4: "bug;billing, not billing",
        0: "no label, not billing",
        2: "no label, not billing",
        3: 'no label, not billing;very "odd"',
    }, "as the thresholds decide"
    assert found.targets.tolist()[:2] == [odd, bug]
    assert len(objective.mistakes({"prob": prob}, target, 2).positions) == 2
    assert objective.mistakes({"prob": target}, target, 16).titles == []


def test_predictions_are_compared_with_what_the_inputs_came_with(objective: MultiLabel) -> None:
    prob = np.array(
        [[0.9, 0.9, 0.1, 0.1], [0.9, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1], [0.9, 0.9, 0.9, 0.9]], np.float32
    )
    predicted, all_of = {"prob": prob}, [True, True, True, False]
    expected = ["billing; bug", "billing", "", "bug"]  # right 2, wrong 1, missed 1
    (note,) = objective.agreement(predicted, None, expected, all_of)
    assert note == f"f1_micro {2 * 2 / (2 * 2 + 1 + 1):.4f}, exact_match 0.6667 on 3 rows with labels"
    decided = np.array([[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], bool)
    (note,) = objective.agreement(predicted, decided, expected, all_of)
    assert note == "f1_micro 1.0000, exact_match 1.0000 on 3 rows with labels"
    _, strange = objective.agreement(predicted, None, ["bug; odd;new", *expected[1:]], all_of)
    assert strange == f"labels that training had not: new, odd; it knew {', '.join(LABELS)}"
    assert objective.agreement(predicted, None, [], all_of) == []
    assert objective.agreement(predicted, None, [""] * 4, all_of) == []
    assert objective.agreement(predicted, None, expected, [False] * 4) == []


# --------------------------------------------------------------------------------------------------------- solved start
def rows_with_labels(count: int) -> dict[str, Tensor]:
    """Return rows whose first two labels can be told; all have the third and none the fourth."""
    rng = np.random.default_rng(0)
    numbers = rng.normal(3, 2, size=(count, 3))
    scaled = (numbers - 3) / 2
    logits = scaled @ np.array([[2, 0, 0], [-1, 1, 0]]).T - (0, 1)
    target = np.concatenate([rng.random((count, 2)) < 1 / (1 + np.exp(-logits)), np.tile([True, False], (count, 1))], 1)
    return {
        "numbers": torch.tensor(numbers, dtype=torch.float32),
        "categories": torch.zeros(count, 0, dtype=torch.long),
        "target": torch.tensor(target, dtype=torch.float32),
    }


def test_a_solved_head_is_scikit_learns_regression_of_each_label() -> None:
    spec = DataSpec(classes=LABELS, numbers=3, target=SPEC.target)
    task = Task(Linear(spec, 4), MultiLabel(spec), TableInput(), Optim(), cached_features="start")
    columns = {split: rows_with_labels(count) for split, count in (("train", 300), ("val", 120))}
    columns["val"] = {name: values[:120].flip(0) for name, values in rows_with_labels(420).items()}
    cached = {
        split: {"features": task.features(part).detach(), "target": part["target"]} for split, part in columns.items()
    }
    line = task.start_from_features(cached)
    assert line.startswith("solved on cached features [300, 3], L2 ")
    x, y = cached["train"]["features"].double().numpy(), columns["train"]["target"].numpy()
    mean, std = x.mean(0), x.std(0, ddof=1)

    val_x = (cached["val"]["features"].double().numpy() - mean) / std
    standard, folds = (x - mean) / std, deal(y > 0.5)

    def models(l2: float, rows: np.ndarray) -> list[LogisticRegression]:
        return [LogisticRegression(C=1 / (l2 * len(rows)), tol=1e-8).fit(standard[rows], y[rows, i]) for i in (0, 1)]

    def scores(l2: float) -> np.ndarray:
        """Return the Brier score of each example over its labels, of which two are the same for all."""
        found = np.zeros(300)
        for fold in range(FOLDS):
            kept, held = np.flatnonzero(folds != fold), folds == fold
            prob = np.stack([model.predict_proba(standard[held])[:, 1] for model in models(l2, kept)], 1)
            constant = 2 * (0.5 / (len(kept) + 1)) ** 2
            found[held] = (np.square(prob - y[held, :2]).sum(1) + constant) / 4
        return found

    strengths = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
    found = {l2: scores(l2) for l2 in strengths}
    best = found[min(strengths, key=lambda l2: found[l2].mean())]
    l2 = float(line.partition("L2 ")[2].split()[0])
    assert l2 == max(l2 for l2 in strengths if found[l2].mean() <= best.mean() + best.std(ddof=1) / 300**0.5)
    logits = task(columns["val"]).detach().numpy()
    for i, model in enumerate(models(l2, np.arange(300))):
        np.testing.assert_allclose(logits[:, i], model.decision_function(val_x), atol=0.01)
    assert not task.head.linear.weight[2:].any(), "a label without two values has a bias alone"
    np.testing.assert_allclose(logits[:, 2:], np.tile(np.log([300.5 / 0.5, 0.5 / 300.5]), (120, 1)), rtol=1e-4)


def test_a_head_where_every_label_is_constant_has_biases_alone() -> None:
    head = Linear(DataSpec(classes=LABELS, numbers=2), 4).head
    part = (torch.randn(5, 2), torch.tensor([[1, 0, 1, 0]]).expand(5, 4))
    head.solve_labels(*part)
    assert not head.linear.weight.any()
    assert ((head.linear.bias > 0) == torch.tensor([True, False, True, False])).all()


# ----------------------------------------------------------------------------------------------------------------- runs
@pytest.fixture
def tickets(tmp_path: Path) -> Path:
    """A table of 120 rows with two numbers and their labels; a quarter of the rows has none."""
    rng = np.random.default_rng(1)
    numbers = rng.normal(size=(120, 2)).round(4)
    labels = [";".join(name for name, value in zip(("red", "blue"), row, strict=True) if value > 0) for row in numbers]
    path = tmp_path / "tickets.csv"
    pd.DataFrame({"a": numbers[:, 0], "b": numbers[:, 1], "tags": labels}).to_csv(path, index=False)
    return path


def test_a_run_an_ensemble_and_their_predictions(tickets: Path) -> None:
    quieten()
    asked = TableMultiLabel(data_dir=tickets, target=("tags",), batch_size=16, max_epochs=6, accelerator="cpu")
    parent = ensemble(asked, 2, RunOptions(test=True))
    members = sorted(parent.glob("member-*"))
    record = records.load(members[0])
    assert {"val/f1_micro", "val/f1_macro", "val/map", "val/exact_match", "test/hamming"} <= set(record["metrics"])
    assert set(record["calibration"]["thresholds"]) == {"red", "blue"}
    assert set(record["calibration"]["test"]) >= {"f1_micro_before", "f1_micro_thresholds"}
    assert set(record["per_class"]["test"]["classes"]) == {"red", "blue"}

    tables = [pd.read_csv(run / "predictions_test.csv", dtype=str, keep_default_na=False) for run in (*members, parent)]
    probs = [table[["prob_red", "prob_blue"]].to_numpy(float) for table in tables]
    np.testing.assert_allclose(probs[2], np.mean(probs[:2], axis=0), atol=1e-6)
    assert (tables[2]["target"] == "").any(), "the premise: an example with no label"
    objective = default_objective(records.spec_of(records.load(parent)))
    predicted, target = objective.read(tables[2])
    whole = records.load(parent)
    assert whole["metrics"]["test/f1_micro"] == pytest.approx(objective.score(predicted, target)["f1_micro"])
    thresholds = whole["calibration"]["thresholds"]
    for row in tables[2].to_dict("records"):
        taken = [name for name, cut in thresholds.items() if float(row[f"prob_{name}"]) >= cut]
        assert set(split_labels(row["labels"])) == set(taken)

    text, failed, notes = predict(parent, [tickets], accelerator="cpu")
    own = {row["id"]: row for row in csv.DictReader(io.StringIO(text))}
    assert not failed
    assert len(own) == 120
    assert "on 120 rows with labels" in notes[-1]
    for row in tables[2].to_dict("records"):
        assert float(own[row["id"]]["prob_red"]) == pytest.approx(float(row["prob_red"]), abs=1e-4)
        assert own[row["id"]]["labels"] == row["labels"]
    with pytest.raises(InputError, match="--threshold"):
        predict(parent, [tickets], threshold=True)


def test_baselines_are_scored_as_runs_are(tickets: Path) -> None:
    quieten()
    asked = TableMultiLabel(data_dir=tickets, target=("tags",), batch_size=16, max_epochs=1, accelerator="cpu")
    record = records.load(runner.run(asked, RunOptions(baselines=True)))
    best = record["baselines"]["logistic regression"]
    assert set(best) == {f"val/{name}" for name in ("f1_micro", "f1_macro", "map", "exact_match", "hamming")}
    assert best["val/f1_micro"] > 0.9
    assert record["baselines"]["most frequent"]["val/f1_micro"] < best["val/f1_micro"]
