"""Temperature and threshold: known ones are found again, and predictions use them as they say."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import own_home
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torchmetrics.functional.classification import multiclass_calibration_error

from experiments.tables import TableClassification, TableRegression
from src.experiment import InputError
from src.inference.batch import predict
from src.resources.files import write_json
from src.runs import records, summary
from src.tasks.objectives.calibration import (
    calibrate,
    calibration_error,
    choose_threshold,
    fit_temperature,
    judge,
    labels,
    with_temperature,
)
from src.tasks.objectives.figures import draw_reliability
from src.training import runner
from src.training.options import RunOptions
from src.training.trainer import quieten


def overconfident(factor: float, count: int = 4000, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities whose logits are `factor` times those that the targets are drawn from."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(count, classes)) * 2
    target = (softmax(logits, 1).cumsum(1) > rng.random((count, 1))).argmax(1)
    return softmax(logits * factor, 1).astype(np.float32), target


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_found(factor: float) -> None:
    assert fit_temperature(*overconfident(factor)) == pytest.approx(factor, rel=0.06)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_error_is_halved_on_other_examples(classes: int) -> None:
    prob, target = overconfident(3.0, classes=classes)
    chosen = calibrate(prob[:2000], target[:2000])
    found = judge(prob[2000:], target[2000:], chosen)
    assert found["ece_before"] > 0.08, "the premise"
    assert found["ece_after"] < found["ece_before"] / 2
    assert chosen["ece_after"] < chosen["ece_before"] / 2


def test_the_error_is_torchmetrics() -> None:
    prob, target = overconfident(2.0, 300)
    theirs = multiclass_calibration_error(torch.tensor(prob), torch.tensor(target), num_classes=4, n_bins=15)
    assert calibration_error(prob, target) == pytest.approx(theirs.item(), abs=1e-4)


def test_a_temperature_is_of_the_logits() -> None:
    logits = np.random.default_rng(1).normal(size=(20, 3)) * 5
    found = with_temperature(softmax(logits, 1).astype(np.float32), 2.5)
    assert found == pytest.approx(softmax(logits / 2.5, 1), abs=1e-5)
    assert found.sum(1) == pytest.approx(1)


def test_certainty_is_no_infinity() -> None:
    prob = np.array([[1, 0], [0, 1], [1, 0]], np.float32)
    target = np.array([0, 1, 1])
    found = calibrate(prob, target)
    assert all(np.isfinite(value) for value in found.values())
    assert np.isfinite(with_temperature(prob, found["temperature"])).all()


def test_without_a_mistake_there_is_nothing_to_fit() -> None:
    assert fit_temperature(np.array([[0.6, 0.4], [0.3, 0.7]], np.float32), np.array([0, 1])) == 1.0


# ----------------------------------------------------------------------------------------------------------- threshold
def test_the_threshold_is_the_best_of_all() -> None:
    rng = np.random.default_rng(2)
    target = (rng.random(500) < 0.1).astype(int)
    score = 1 / (1 + np.exp(-rng.normal(size=500) - 1.5 * target + 2.5))
    prob = np.stack([1 - score, score], 1)
    best = max(balanced_accuracy_score(target, score >= cut) for cut in np.linspace(0, 1, 2001))
    chosen = choose_threshold(score, target)
    assert chosen is not None
    assert 0 < chosen < 0.5, "the rare class needs less"
    assert balanced_accuracy_score(target, labels(prob, chosen)) == pytest.approx(best, abs=2e-3)


@pytest.mark.parametrize(
    ("score", "target", "expected"),
    [
        ([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], 0.5),
        ([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1], 0.25),
        ([0.6, 0.7, 0.8, 0.9], [0, 0, 1, 1], 0.75),
        ([0.1, 0.2], [0, 0], None),
    ],
)
def test_thresholds_by_hand(score: list[float], target: list[int], expected: float | None) -> None:
    assert choose_threshold(np.array(score), np.array(target)) == (expected and pytest.approx(expected))


def misled(count: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are right as often as they say, but for a few mistakes they are all but sure of: these alone
    make the loss ask for a higher temperature."""
    rng = np.random.default_rng(4)
    score = np.full(count, 0.9)
    target = (rng.permutation(count) >= count // 10).astype(int)
    score[np.flatnonzero(target == 0)[:6]] = 1 - 1e-9
    return np.stack([1 - score, score], 1), target


def test_a_temperature_that_makes_it_worse_is_not_taken() -> None:
    prob, target = misled()
    found = calibrate(prob, target)
    assert found["temperature"] == 1
    assert found["temperature_tried"] == pytest.approx(fit_temperature(prob, target))
    assert found["ece_tried"] > found["ece_before"], "the premise"
    assert found["ece_tried"] == calibration_error(with_temperature(prob, found["temperature_tried"]), target)
    assert found["ece_after"] == found["ece_before"]
    assert found["threshold"] == choose_threshold(prob[:, 1], target), "of the probabilities as they are"
    assert "temperature_tried" not in calibrate(*overconfident(3.0))


def test_the_summary_says_that_a_temperature_makes_it_worse() -> None:
    found = calibrate(*misled())
    tried, before, after = (found[name] for name in ("temperature_tried", "ece_before", "ece_tried"))
    assert summary.of_calibration(found).startswith(
        f"not: the temperature stays 1, since {tried:.3f} makes it worse, val/ece {before:.4f} -> {after:.4f}"
    )
    chosen = calibrate(*overconfident(3.0))
    worse = chosen | {"test": {"ece_before": 0.01, "ece_after": 0.02}}
    assert summary.of_calibration(worse).endswith("test/ece 0.0100 -> 0.0200 (worse)")
    assert "worse" not in summary.of_calibration(chosen)


def test_only_two_classes_have_a_threshold() -> None:
    assert calibrate(*overconfident(2.0, classes=3))["threshold"] is None
    assert calibrate(*overconfident(2.0, classes=2))["threshold"] is not None


def test_a_diagram_names_both_errors() -> None:
    prob, target = overconfident(3.0)
    figure = draw_reliability(prob, with_temperature(prob, 3.0), target, 3.0)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[0] == f"before: ECE {calibration_error(prob, target):.4f}"
    assert titles[1].startswith("temperature 3: ECE 0.0")


# ---------------------------------------------------------------------------------------------------------------- runs
def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, houses: Path) -> Path:
    """A tested run of two classes."""
    home = tmp_path_factory.mktemp("calibrated")
    with own_home(home):
        return runner.run(
            TableClassification(data_dir=houses, target="size", batch_size=8, max_epochs=2), RunOptions(test=True)
        )


def changed(run: Path, folder: Path, **calibration: Any) -> Path:
    copied = shutil.copytree(run, folder / "run")
    records.Record.read(copied).update(calibration=records.load(run)["calibration"] | calibration)
    return copied


def test_the_record_and_the_board_have_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = json.loads((run / "run.json").read_text())["calibration"]
    metrics = records.load(run)["metrics"]
    assert kept["ece_before"] == pytest.approx(metrics["val/ece"], abs=1e-4)
    assert kept["test"]["ece_before"] == pytest.approx(metrics["test/ece"], abs=1e-4)
    assert kept["test"]["balanced_acc_before"] == pytest.approx(metrics["test/balanced_acc"], abs=1e-5)
    events = EventAccumulator(str(run), size_guidance={"images": 0}).Reload()
    assert {"visuals/val/reliability", "visuals/test/reliability"} <= set(events.Tags()["images"])


def test_predictions_are_calibrated_and_labels_are_not(run: Path, houses: Path, tmp_path: Path) -> None:
    copied = changed(run, tmp_path, temperature=4.0)
    plain, scaled = (rows(predict(copied, [houses], calibrate=on).text) for on in (False, True))
    own = {row["id"]: row for row in rows((run / "predictions_test.csv").read_text())}
    assert [row["label"] for row in plain] == [row["label"] for row in scaled]
    for before, after in zip(plain, scaled, strict=True):
        odds = [np.log(float(row["prob_small"]) / float(row["prob_large"])) for row in (before, after)]
        assert odds[1] == pytest.approx(odds[0] / 4, abs=0.05)
        if before["id"] in own:
            assert float(before["prob_small"]) == pytest.approx(float(own[before["id"]]["prob_small"]), abs=1e-4)


def test_a_threshold_decides_where_it_is_asked_for(run: Path, houses: Path, tmp_path: Path) -> None:
    copied = changed(run, tmp_path, threshold=0.9)
    plain = rows(predict(copied, [houses]).text)
    assert all((row["label"] == "small") == (float(row["prob_small"]) > 0.5) for row in plain)
    for calibrated in (True, False):
        found = rows(predict(copied, [houses], threshold=True, calibrate=calibrated).text)
        expected = ["small" if float(row["prob_small"]) >= 0.9 else "large" for row in plain]
        assert [row["label"] for row in found] == expected, "of the calibrated probability, shown or not"


def test_runs_without_a_calibration_still_predict(run: Path, houses: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(run, tmp_path / "run")
    record = records.load(copied)
    del record["calibration"]
    write_json(copied / "run.json", record)
    assert predict(copied, [houses]).text == predict(run, [houses], calibrate=False).text
    with pytest.raises(InputError, match="--threshold"):
        predict(copied, [houses], threshold=True)


def test_a_regression_has_none(houses: Path) -> None:
    quieten()
    run = runner.run(TableRegression(data_dir=houses, target="price", batch_size=8, max_epochs=1))
    assert "calibration" not in records.load(run)
    with pytest.raises(InputError, match=r"--threshold.*Leave it out"):
        predict(run, [houses], threshold=True)
