"""The nine cells of image, text, table by one class, several labels, a number: train, go on, predict, are studied."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import signal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from conftest import ADD_FIGURE, own_home
from huggingface_hub import ModelCard
from kills import Mortal, SmallBackbone, differences, in_process, only_run, train
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import leyden
from experiments.images import Images, ImagesMultiLabel, ImagesRegression
from experiments.tables import TableClassification, TableMultiLabel, TableRegression
from experiments.texts import TextsLstm, TextsMultiLabel, TextsRegression
from scripts.predict import main
from src.cli import commands
from src.cli.explain import ExplainFlags, explain
from src.cli.parser import PredictFlags, RunFlags
from src.data_checks import check
from src.deploy.export import export
from src.experiment import Perceptron, Recurrent, TextPrep, Vocabulary
from src.explain.card import write as card
from src.inference.batch import predict
from src.runs import records
from src.training.build import build_parts

pytestmark = pytest.mark.usefixtures("quiet")


class ImageLabel(SmallBackbone, Images):
    """One class an image."""


class ImageLabels(SmallBackbone, ImagesMultiLabel):
    """Several labels an image, or none."""


class ImageNumber(SmallBackbone, ImagesRegression):
    """A number for an image."""

    target = "age"


class TextLabel(Mortal, TextsLstm):
    """One label a text."""


class TextLabels(Mortal, TextsMultiLabel):
    """Several labels a text, or none."""

    target = "tags"


class TextNumber(Mortal, TextsRegression):
    """A number for a text."""

    target = "stars"


class TableLabel(Mortal, TableClassification):
    """One class a row."""

    target = "size"


class TableLabels(Mortal, TableMultiLabel):
    """Several labels a row, or none."""

    target = ("extras",)


class TableNumber(Mortal, TableRegression):
    """A number for a row, with an interval."""

    target = "price"
    loss = "gaussian"


TEXT: dict[str, Any] = {
    "vocabulary": Vocabulary(size=100, width=8),
    "lstm": Recurrent(hidden=4, word_dropout=0.1, dropout=0.2),
    "prep": TextPrep(max_length=16),
    "batch_size": 8,
    "accelerator": "cpu",
}
TABLE: dict[str, Any] = {
    "mlp": Perceptron(width=16, depth=1, dropout=0.3, bins=4),
    "batch_size": 8,
    "accelerator": "cpu",
}
SIZES = {"photos": 40, "texts": 80, "houses": 120, "tagged": 120}
"""Rows of the tables."""
TOLERANCE: dict[str, dict[str, Any]] = {
    "photos": {"abs": 1e-3},
    "texts": {"abs": 1e-4},
    "houses": {"rel": 1e-4, "abs": 1e-6},
}
"""Between a saved prediction and the same one made again."""
TOLERANCE["tagged"] = TOLERANCE["houses"]


class Cell(NamedTuple):
    """An experiment and what is known of its data."""

    kind: type[Mortal]
    data: str
    """Fixture of the table."""
    fields: dict[str, Any]
    column: str
    """What is predicted."""
    classes: tuple[str, ...]
    score: str
    """What a prediction of rows with targets says how well it agrees with them by."""
    checked: str
    """What the check of the data says last."""


CELLS = [
    Cell(ImageLabel, "photos", {}, "label", ("cat", "dog"), "accuracy", "labels: "),
    Cell(ImageLabels, "photos", {}, "labels", ("cat", "furry"), "f1_micro", "label "),
    Cell(ImageNumber, "photos", {}, "age", (), "rmse", "targets: "),
    Cell(TextLabel, "texts", TEXT, "label", ("bad", "good"), "accuracy", "labels: "),
    Cell(TextLabels, "texts", TEXT, "tags", ("film", "plot"), "f1_micro", "label "),
    Cell(TextNumber, "texts", TEXT, "stars", (), "rmse", "targets: compared"),
    Cell(TableLabel, "houses", TABLE, "size", ("large", "small"), "accuracy", "labels: "),
    Cell(TableLabels, "tagged", TABLE, "extras", ("garden", "lift", "quay"), "f1_micro", "label "),
    Cell(TableNumber, "houses", TABLE, "price", (), "rmse", "targets: "),
]


OTHERS_TESTS = (ImageLabel, TextLabel, TableLabel, TableNumber)
"""Whose folds and members are those of test_cross_validation.py and test_ensemble.py."""
EXPORTED_FOLDS = (ImageNumber, TableLabels)
EXPORTED_ENSEMBLES = (TextLabels,)
"""Are exported too, as one graph."""


class Done(NamedTuple):
    """A cell and its run, which nobody stopped, with its test and baselines; not to be changed."""

    cell: Cell
    experiment: Mortal
    run: Path
    rows: dict[str, dict[str, str]]
    """Of the table that it was trained on, by their ids."""

    @property
    def data(self) -> Path:
        assert self.experiment.data_dir is not None
        return self.experiment.data_dir

    @property
    def metric(self) -> str:
        return {"accuracy": "acc"}.get(self.cell.score, self.cell.score)

    @property
    def columns(self) -> list[str]:
        """Of the predictions."""
        names = [f"prob_{name}" for name in self.cell.classes]
        if not names:
            return ["prediction", "lower", "upper"] if self.cell.kind is TableNumber else ["prediction"]
        return ["labels" if self.cell.score == "f1_micro" else "label", *names]


def of(*kinds: type[Mortal], others: bool = False) -> pytest.MarkDecorator:
    """Run a test on some cells alone; on the others too with `-m slow`."""
    chosen = [cell for cell in CELLS if cell.kind in kinds]
    slow = [pytest.param(cell, marks=pytest.mark.slow) for cell in CELLS if others and cell not in chosen]
    return pytest.mark.parametrize("done", [*chosen, *slow], ids=lambda cell: cell.kind.__name__, indirect=True)


@pytest.fixture(scope="module", params=CELLS, ids=lambda cell: cell.kind.__name__)
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Done:
    cell: Cell = request.param
    data: Path = request.getfixturevalue(cell.data)
    experiment = cell.kind(data_dir=data, max_epochs=2, precision="32-true", logger=("tensorboard",), **cell.fields)
    with own_home(tmp_path_factory.mktemp("cell")), pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.utils.tensorboard.SummaryWriter.add_figure", ADD_FIGURE)
        code, run = run_all(experiment, baselines=True, test=True)
    assert code == 0
    rows = rows_of(data.read_text(encoding="utf-8"))
    name = "path" if "path" in rows[0] else "id"
    return Done(cell, experiment, run, {row.get(name, str(number)): row for number, row in enumerate(rows)})


def run_all(experiment: Mortal, **flags: Any) -> tuple[int, Path]:
    """Do what run.py does; return its exit code and the newest run."""
    code = commands.run_all([experiment], RunFlags(**flags))
    found = records.runs_dir().glob(f"{type(experiment).__name__}/*/run.json")
    return code, max(found, key=lambda path: path.stat().st_mtime_ns).parent


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_record_says_what_is_predicted_and_how_well(done: Done) -> None:
    record, classes = records.load(done.run), list(done.cell.classes)
    kind = type(done.experiment).predicts  # pyright: ignore[reportAttributeAccessIssue]
    assert (record["spec"]["target"]["kind"], record["spec"]["target"]["name"]) == (kind, done.cell.column)
    assert list(record["spec"]["classes"]) == classes
    assert record["tests_read"] == 1
    assert {name.replace("val/", "test/") for name in record["metrics"]} <= set(record["metrics"])
    for split in ("val", "test"):
        figures = record.get("per_class", {}).get(split, {}).get("classes", {})
        assert list(figures) == classes
        assert all({"precision", "recall", "f1", "support"} <= of.keys() for of in figures.values())
        rows = rows_of((done.run / f"predictions_{split}.csv").read_text())
        assert len(rows) == record["data"]["sizes"][split]
        assert list(rows[0]) == ["id", "target", *done.columns]
    assert list(record["data"]["class_counts"].get("train", {})) == classes
    assert len(record["baselines"]) == (3 if done.cell.fields is TABLE else 2)
    for scores in record["baselines"].values():
        assert set(scores) <= set(record["metrics"])
        assert {f"val/{done.metric}", f"test/{done.metric}"} <= set(scores)
        assert done.experiment.monitor in scores or done.cell.kind is TableLabel, "that follows val/loss"
    if kind == "multi_label":
        assert list(record["calibration"]["thresholds"]) == classes
        for name in classes:
            there = sum(name in row[done.cell.column].split(";") for row in done.rows.values())
            assert sum(counts[name] for counts in record["data"]["class_counts"].values()) == there
    if kind == "regression":
        std = pd.Series([float(row[done.cell.column]) for row in done.rows.values()]).std()
        assert record["spec"]["target"]["std"] == pytest.approx(std, rel=0.2)


def test_a_stopped_run_ends_as_if_left_alone(done: Done) -> None:
    dying = dataclasses.replace(done.experiment, dies_at=10, by=signal.SIGTERM)
    code, run = run_all(dying, baselines=True, checkpoint_every="2")
    assert code == 143
    assert records.load(run)["state"] == "interrupted"
    assert run_all(done.experiment, resume=run) == (0, run)
    assert run_all(done.experiment, resume=run, test=True) == (0, run)
    assert records.load(run)["tests_read"] == 1
    same_as_left_alone(run, done)


def same_as_left_alone(run: Path, done: Done) -> None:
    assert differences(run, done.run) == []
    assert (run / "predictions_test.csv").read_bytes() == (done.run / "predictions_test.csv").read_bytes()


def test_a_table_is_predicted_as_the_run_did(done: Done) -> None:
    parts = [(done.run / f"predictions_{split}.csv").read_text() for split in ("val", "test")]
    own = {row["id"]: row for part in parts for row in rows_of(part)}
    found = predict(done.run, [done.data], calibrate=False)
    rows = rows_of(found.text)
    id_name = next(iter(rows[0]))
    assert list(rows[0]) == ["path" if done.cell.data == "photos" else "id", *done.columns, "error"]
    assert [row[id_name] for row in rows] == list(done.rows), "the table's own column, in its order"
    assert len(rows) == SIZES[done.cell.data]
    same = [row for row in rows if row[id_name] in own]
    assert len(same) == len(own) > 10
    for row in same:
        expected = own[row[id_name]]
        for name in done.columns:
            if name in ("label", "labels"):
                assert row[name] == expected[name]
            else:
                assert float(row[name]) == pytest.approx(float(expected[name]), **TOLERANCE[done.cell.data])
    (note,) = found.notes
    assert note.startswith(done.cell.score)
    assert ("exact_match" in note) == (done.cell.score == "f1_micro")
    assert f" on {SIZES[done.cell.data]} rows with " in note


def exported_as_the_run_predicts(run: Path, done: Done) -> None:
    """Export a run, and predict its whole table with both, with and without the calibration."""
    folder = export(run)
    for calibrate in (True, False):
        tables = [predict(one, [done.data], calibrate=calibrate) for one in (run, folder)]
        own, other = (pd.read_csv(io.StringIO(table.text), dtype=str) for table in tables)
        assert list(own.columns) == list(other.columns)
        assert tables[0].notes[0].split(",")[0] == tables[1].notes[0].split(",")[0]
        for name in own.columns:
            if name.startswith("prob_"):
                assert other[name].astype(float).tolist() == pytest.approx(own[name].astype(float).tolist(), abs=1e-5)
            elif name in ("prediction", "lower", "upper"):
                assert other[name].astype(float).tolist() == pytest.approx(own[name].astype(float).tolist(), rel=1e-5)
            else:
                assert other[name].equals(own[name]), name


@of(ImageLabels, TextNumber, TableLabel, others=True)  # which no other test exports
def test_an_export_predicts_as_its_run(done: Done) -> None:
    exported_as_the_run_predicts(done.run, done)


@of(*(cell.kind for cell in CELLS if cell.kind not in OTHERS_TESTS), others=True)
def test_folds_test_each_example_once(done: Done) -> None:
    code, run = run_all(dataclasses.replace(done.experiment, max_epochs=1), folds=2, baselines=True)
    assert code == 0
    rows = rows_of((run / "predictions_folds.csv").read_text())
    assert sorted(row["id"] for row in rows) == sorted(done.rows)
    assert set(done.columns) <= rows[0].keys()
    for row in rows:
        true = done.rows[row["id"]][done.cell.column]
        assert row["target"] == true if done.cell.classes else float(row["target"]) == pytest.approx(float(true))
    record = records.load(run)
    assert record["baselines"].keys() == records.load(done.run)["baselines"].keys()
    assert f"test/{done.metric}" in json.dumps(record)
    if done.cell.kind in EXPORTED_FOLDS:
        exported_as_the_run_predicts(run, done)


@of(*(cell.kind for cell in CELLS if cell.kind not in OTHERS_TESTS), others=True)
def test_an_ensemble_predicts_its_members_mean(done: Done) -> None:
    code, run = run_all(dataclasses.replace(done.experiment, max_epochs=1), ensemble=2)
    assert code == 0
    assert f"val/{done.metric}" in records.load(run)["metrics"]
    runs = (run, run / "member-1", run / "member-2")
    names = [name for name in done.columns if name.startswith("prob_") or name == "prediction"]
    for texts in (
        [predict(one, [done.data], calibrate=False).text for one in runs],
        [(one / "predictions_val.csv").read_text() for one in runs],
    ):
        own, one, other = (pd.read_csv(io.StringIO(text))[names] for text in texts)
        close: dict[str, Any] = TOLERANCE["houses"] if done.cell.fields is TABLE else {"abs": 1e-5}
        assert own.to_numpy() == pytest.approx(((one + other) / 2).to_numpy(), **close)
        assert not one.equals(other)
    if done.cell.kind in EXPORTED_ENSEMBLES:
        exported_as_the_run_predicts(run, done)


def test_the_data_are_checked(done: Done) -> None:
    datamodule, task = build_parts(done.experiment)
    report = check(done.experiment, datamodule, task)
    assert report.checked[0] == "examples of each class"
    assert any(line.startswith("images in two splits") for line in report.checked) == (done.cell.data == "photos")
    assert report.checked[-1].startswith(done.cell.checked)


NUMBERS = [cell for cell in CELLS if not cell.classes]
FAR = 1.7e9
"""Seconds since 1970: float32 has multiples of 128 there."""


@pytest.mark.parametrize("cell", NUMBERS, ids=lambda cell: cell.kind.__name__)
def test_numbers_far_from_zero_keep_their_digits(
    cell: Cell, request: pytest.FixtureRequest, tmp_path: Path, photos: Path
) -> None:
    """Everything about a shifted target is as before, but shifted: from the table to the score of new predictions."""
    table = pd.read_csv(request.getfixturevalue(cell.data), dtype=str)
    shifted = table.assign(**{cell.column: [repr(FAR + float(value)) for value in table[cell.column]]})
    data = tmp_path / "shifted.csv"
    if "path" in shifted:
        (tmp_path / "pictures").symlink_to(photos.parent)
        shifted["path"] = "pictures/" + shifted["path"]
    shifted.to_csv(data, index=False)
    experiment = cell.kind(data_dir=data, max_epochs=1, precision="32-true", **cell.fields)
    code, run = run_all(experiment, baselines=True, test=True)
    assert code == 0
    record = records.load(run)
    means = record["baselines"]["mean"]
    true = {str(i): value for i, value in enumerate(shifted[cell.column])}
    true |= dict(zip(shifted.get("path", shifted.get("id", [])), shifted[cell.column], strict=False))
    for split in ("val", "test"):
        rows = rows_of((run / f"predictions_{split}.csv").read_text())
        assert all(row["target"] == repr(float(true[row["id"]])) for row in rows), "exactly as it was read"
        target, prediction = (np.array([float(row[name]) for row in rows]) for name in ("target", "prediction"))
        assert (prediction != prediction.astype(np.float32)).all(), "no multiples of 128"
        rmse = np.sqrt(np.mean((target - prediction) ** 2))
        assert record["metrics"][f"{split}/rmse"] == pytest.approx(rmse, rel=1e-6)
        middle = FAR + np.mean([float(value) - FAR for value in true.values()])
        assert means[f"{split}/rmse"] == pytest.approx(np.sqrt(np.mean((target - middle) ** 2)), rel=0.2)
    (note,) = predict(run, [data]).notes
    assert float(note.split()[1].rstrip(",")) < 2 * means["test/rmse"]


@of(ImageLabels)
def test_labels_in_columns_of_their_own_are_read_too(done: Done) -> None:
    other = done.data.with_name("columns.csv")
    pd.DataFrame(done.rows.values()).drop(columns="labels").to_csv(other, index=False)
    assert predict(done.run, [other], calibrate=False) == predict(done.run, [done.data], calibrate=False)
    other.unlink()


@of(ImageLabel, ImageLabels, ImageNumber)
def test_predict_py_takes_files_folders_and_tables_of_images(
    done: Done, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "val").symlink_to(images / "val")
    (tmp_path / "broken.jpg").write_text("no image")
    names = ["val/cat/0000.jpg", "gone.jpg", "broken.jpg", "val/dog/0001.jpg"]
    pd.DataFrame({"path": names}).to_csv(tmp_path / "new.csv", index=False)
    assert main(PredictFlags(run=done.run, inputs=(tmp_path / "new.csv",), out=tmp_path / "out.csv")) == 0
    assert "4 rows, 2 with an error" in capsys.readouterr().err
    rows = rows_of((tmp_path / "out.csv").read_text())
    assert [row["path"] for row in rows] == names
    assert [row["error"] for row in rows] == ["", "No such file or directory", "not an image", ""]
    files = [images / "val/cat/0000.jpg", images / "val/dog/0001.jpg"]
    found = rows_of(predict(done.run, files).text)
    assert [row["id"] for row in found] == [str(file) for file in files]
    for row, same in zip(found, (rows[0], rows[3]), strict=True):
        assert {name: value for name, value in same.items() if name != "path"} == {
            name: value for name, value in row.items() if name != "id"
        }
    assert [row["id"] for row in rows_of(predict(done.run, [images / "val/dog"]).text)] == [
        str(file) for file in sorted((images / "val/dog").iterdir())
    ]


@of(TextLabel, TextLabels, TextNumber)
def test_texts_alone_are_predicted_and_an_empty_one_is_an_error(done: Done, tmp_path: Path) -> None:
    texts = [row["text"] for row in done.rows.values()]
    pd.DataFrame({"text": [*texts, ""]}).to_csv(tmp_path / "new.csv", index=False)
    new = predict(done.run, [tmp_path / "new.csv"], calibrate=False)
    assert new.notes == []
    *rows, empty = rows_of(new.text)
    assert rows == rows_of(predict(done.run, [done.data], calibrate=False).text)
    assert empty == dict.fromkeys(rows[0], "") | {"id": "80", "error": "empty text"}


@of(TableLabels)  # of the others, test_resume.py and kills.py
def test_a_killed_run_ends_as_if_left_alone(done: Done, tmp_path: Path) -> None:
    assert in_process(train, dataclasses.replace(done.experiment, dies_at=14)) == -signal.SIGKILL
    run = only_run(tmp_path / "runs")
    assert run is not None
    assert run_all(done.experiment, resume=run, baselines=True, test=True) == (0, run)
    same_as_left_alone(run, done)


@of(TableLabel, TableLabels, TableNumber)
def test_predict_py_writes_the_same(done: Done, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.csv"
    assert main(PredictFlags(run=done.run, inputs=(done.data,), out=out, calibrate=False)) == 0
    said = capsys.readouterr().err
    found = predict(done.run, [done.data], calibrate=False)
    assert out.read_text() == found.text
    assert found.notes[0] in said, "they came with their targets"


def test_a_card_says_what_the_record_says(done: Done, tmp_path: Path) -> None:
    markdown, page = card.write(done.run, out=tmp_path)
    found: Any = ModelCard.load(markdown)
    record = records.load(done.run)
    scores = {result.metric_name: result.metric_value for result in found.data.eval_results or []}
    expected = {name: value for name, value in record["metrics"].items() if not name.endswith("/loss")}
    assert scores == pytest.approx({name: value for name, value in expected.items() if value == value}, abs=1e-6)
    reported = card.read(done.run)
    assert reported.strange == {}
    assert len(reported.known) >= (4 if done.cell.score == "accuracy" else 3) * 2, "of both splits"
    for name, score in reported.known.items():
        assert score.value == pytest.approx(expected[name], rel=1e-5, abs=1e-6, nan_ok=True), name
        assert score.interval is None or score.interval[0] <= score.value <= score.interval[1]
    for part in (found.text, page.read_text()):
        assert done.cell.column in part
        assert all(name in part for name in done.cell.classes)
    assert "<svg" in page.read_text()


def test_explanations_say_whether_they_can_be_believed(done: Done, tmp_path: Path) -> None:
    out = tmp_path / "why.html"
    assert explain(ExplainFlags(run=done.run, mistakes=3, budget=4.0, out=out)) == 0
    found = leyden.load(done.run).explain(mistakes=3, budget=4.0)
    assert 1 <= len(found) <= 3
    assert found.checks.faithful
    assert found.checks.faithful.examples >= 2
    assert found.checks.faithful.interval is not None
    page = out.read_text()
    assert all(warning in page for warning in found.checks.warnings)
    assert ("Do not trust" in page) == bool(found.checks.warnings)
    wrong = set(done.rows) if done.cell.classes else set()
    for one in found:
        assert np.isfinite(one.values).all()
        assert one.target in (done.cell.classes or ("prediction",))
        assert one.expected
        if one.kind == "image":
            assert one.picture().size == one.values.shape[::-1]
        else:
            assert len(one.table()) == len(one.names) == len(one.values)
        if done.cell.score == "accuracy":
            assert one.id in wrong
            assert one.expected != one.target, "a mistake"
    events = EventAccumulator(str(done.run), size_guidance={"images": 0, "tensors": 0}).Reload()
    image, text = "visuals/val/worst, explained", "val/worst, explained/text_summary"
    assert (image in events.Tags()["images"]) == (done.cell.data == "photos")
    assert (text in events.Tags()["tensors"]) == (done.cell.data != "photos")
    numbers = out.with_suffix(".numbers.npz" if done.cell.data == "photos" else ".numbers.csv")
    assert numbers.is_file()
