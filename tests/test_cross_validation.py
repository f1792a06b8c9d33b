"""Cross-validation: each row predicted once by who has not seen it; mean and spread; an interrupted one goes on."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import shutil
import signal
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import own_home
from sklearn.metrics import accuracy_score, root_mean_squared_error
from torch import Tensor

from experiments.tables import TableLinear, TableLogistic
from src import cli, tasks
from src.cli import commands
from src.datamodules import Fold
from src.experiment import Columns, DataSpec, InputError
from src.loading import load
from src.runs import records
from src.studies.multi_run import mean_and_spread
from src.tasks.task import Batch
from src.training import runner
from src.training.baselines import fit_baselines
from src.training.build import build_parts

pytestmark = pytest.mark.usefixtures("quiet")

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"


class Linear(TableLinear):
    """Linear regression of the houses' prices at a size for tests."""

    target = "price"
    columns = Columns(ignored=("size",))
    max_epochs = 1
    batch_size = 32


class Breaks(Linear):
    """A bug of the user's in the second fold, until it is mended."""

    broken: bool = True
    """The bug."""

    def task(self, spec: DataSpec) -> tasks.Task:
        if self.broken and (only_run() / "fold-2").exists():
            raise RuntimeError("fold two breaks")
        return super().task(spec)


class SignalsItself(tasks.Regression):
    """Gets a signal in its third step."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if self.global_step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return super().training_step(batch, batch_idx)


class Interrupts(Breaks):
    """Is stopped by Ctrl-C in the second fold, in its second epoch."""

    max_epochs = 2

    def task(self, spec: DataSpec) -> tasks.Task:
        task = Linear.task(self, spec)
        if self.broken and (only_run() / "fold-2").exists():
            return SignalsItself(task.model, spec, self.optim)
        return task


def only_run() -> Path:
    """Return the one cross-validation's directory; that of a fold does not count."""
    (record,) = records.runs_dir().glob("*/*/run.json")
    return record.parent


def call(*arguments: str | Path) -> int:
    """Do what run.py does with these arguments."""
    command = cli.parse(list(map(str, arguments)))
    return commands.run_all(command.experiments, command.flags)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Return why the command line or the command is refused."""
    capsys.readouterr()
    try:
        code = call(*arguments)
    except InputError as error:
        return str(error)
    assert code == 1
    return capsys.readouterr().err


def validate(kind: type[Linear], data: Path, count: int = 3, **flags: Any) -> int:
    return commands.run_all([kind(data_dir=data)], cli.RunFlags(folds=count, **flags))


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return content and time of all files."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# ------------------------------------------------------------------------------------------- an experiment of each task
@dataclass(frozen=True)
class Validated:
    """A finished cross-validation."""

    asked: str
    run: Path
    out: str
    ids: list[str]

    @property
    def record(self) -> dict[str, Any]:
        return records.load(self.run)

    @property
    def children(self) -> list[Path]:
        return [self.run / f"fold-{number}" for number in (1, 2, 3)]


VALIDATE = ("--folds", "3", "--baselines")
ASKED = {
    "numbers": ("tables.py:TableLinear", "--target price --columns.ignored size"),
    "classes": ("tables.py:TableLogistic", "--target size --columns.ignored price area"),
    "images": ("cats_dogs_finetune.py:CatsDogsScratch", "--image-size 32 --limit-train-batches 2 --batch-size 4"),
    "texts": (
        "texts.py:TextsLstm",
        "--vocabulary.size 200 --vocabulary.width 8 --lstm.hidden 8 --prep.max-length 16",
    ),
}


@pytest.fixture(scope="module", params=list(ASKED))
def validated(
    request: pytest.FixtureRequest, houses: Path, texts: Path, images: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Validated]:
    """`run.py FILE --folds 3 --baselines` for an experiment of each task; not to be changed."""
    home = tmp_path_factory.mktemp(request.param)
    if request.param == "images":
        data = home / "all"
        shutil.copytree(images / "train", data)
        ids = [str(path.relative_to(data)) for path in sorted(data.glob("*/*"))]
    else:
        data = texts if request.param == "texts" else houses
        ids = [row.get("id", str(number)) for number, row in enumerate(rows_of(data))]
    asked, flags = ASKED[request.param]
    with own_home(home):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            assert call(EXPERIMENTS / asked, "--data-dir", data, "--max-epochs", "1", *VALIDATE, *flags.split()) == 0
        yield Validated(asked, only_run(), out.getvalue(), ids)


def test_a_parent_and_its_children(validated: Validated) -> None:
    run, record = validated.run, validated.record
    assert run.parent.name == validated.asked.partition(":")[2]
    assert sorted(path.parent.name for path in run.glob("*/run.json")) == ["fold-1", "fold-2", "fold-3"]
    assert (run / Path(validated.asked.partition(":")[0]).name).is_file(), "the experiment's file, for reading"
    assert record["experiment"] == f"experiments.{validated.asked.replace('.py:', '.')}"
    assert (record["state"], record["folds"], record["tests_read"]) == ("done", 3, 1)
    assert record["reason"] == "3 folds done"
    assert "3 folds" in record["data"]["split"]
    assert record["data"]["source"]
    assert record["weights"]["source"]
    children = [records.load(child) for child in validated.children]
    for number, child in enumerate(children, 1):
        assert child["state"] == "done"
        assert child["fold"] == {"number": number, "count": 3, "held_out": "test"}
        assert child["fields"] | child.get("sized", {"was": {}})["was"] == record["fields"], "as asked, and sized"
        assert child["data"]["split"].startswith(f"fold {number} of 3")
        assert child["tests_read"] == 1
    for child in validated.children:
        assert (child / "checkpoints" / "best.ckpt").is_file()
        assert (child / "predictions_val.csv").is_file()
    assert record["wall_s"] == pytest.approx(sum(child["wall_s"] for child in children), abs=0.2)


def test_a_metric_that_is_no_number_stays_none() -> None:
    mean, spread = mean_and_spread([{"r2": math.nan, "mse": 1.0}, {"r2": 0.5, "mse": 3.0}])
    assert (mean["mse"], spread["mse"]) == (2.0, pytest.approx(2**0.5))
    assert math.isnan(mean["r2"])
    assert math.isnan(spread["r2"])


def test_mean_and_spread_are_those_of_the_children(validated: Validated) -> None:
    record = validated.record
    children = [records.load(child) for child in validated.children]
    assert any(name.startswith("test/") for name in record["metrics"])
    assert set(record["metrics"]) == set(record["spread"]) == set(children[0]["metrics"])
    for name in record["metrics"]:
        found = [child["metrics"][name] for child in children]
        assert record["metrics"][name] == pytest.approx(statistics.mean(found), nan_ok=True)
        assert record["spread"][name] == pytest.approx(statistics.stdev(found), nan_ok=True)
    assert record["spread"]["test/loss"] > 0, "the premise"
    assert len(record["baselines"]) >= 2
    for baseline, metrics in record["baselines"].items():
        for name, value in metrics.items():
            found = [child["baselines"][baseline][name] for child in children]
            assert value == pytest.approx(statistics.mean(found), nan_ok=True)
            assert record["baselines_spread"][baseline][name] == pytest.approx(statistics.stdev(found), nan_ok=True)
    best = [child["best"]["value"] for child in children]
    monitored = {name: children[0]["best"][name] for name in ("name", "mode")}
    assert record["best"] == monitored | {"value": pytest.approx(statistics.mean(best))}


def test_each_row_is_predicted_once_by_who_has_not_seen_it(validated: Validated) -> None:
    rows = rows_of(validated.run / "predictions_folds.csv")
    assert sorted(row["id"] for row in rows) == sorted(validated.ids)
    for number, child in enumerate(validated.children, 1):
        mine = [row for row in rows if row["fold"] == str(number)]
        assert mine == [row | {"fold": str(number)} for row in rows_of(child / "predictions_test.csv")]
        split = json.loads((child / "split.json").read_text())
        parts = [set(split[name]) for name in ("train", "val", "test")]
        assert sum(map(len, parts)) == len(set.union(*parts)), "no row in two splits"
        assert set.union(*parts) == set(validated.ids)
        assert parts[2] == {row["id"] for row in mine}


def test_the_figures_are_those_of_the_predictions(validated: Validated) -> None:
    rows = pd.read_csv(validated.run / "predictions_folds.csv", dtype={"target": str, "label": str})
    found = []
    for _, part in rows.groupby("fold"):
        if "label" in part:
            found.append(accuracy_score(part["target"], part["label"]))
        else:
            found.append(root_mean_squared_error(part["target"].astype(float), part["prediction"]))
    name = "test/acc" if "label" in rows else "test/rmse"
    assert validated.record["metrics"][name] == pytest.approx(np.mean(found), rel=1e-4)
    assert validated.record["spread"][name] == pytest.approx(np.std(found, ddof=1), rel=1e-3, abs=1e-6)


def test_the_result_is_shown_beside_the_baselines(validated: Validated) -> None:
    record, out = validated.record, validated.out
    result = out[out.rindex("3 folds, each tested on what it has not seen") :]
    name = validated.asked.partition(":")[2]
    for label, metrics, spread in (
        (name, record["metrics"], record["spread"]),
        *((key, value, record["baselines_spread"][key]) for key, value in record["baselines"].items()),
    ):
        (line,) = (line for line in result.splitlines() if line.strip().startswith(f"{label} "))
        for metric in (metric for metric in metrics if metric.startswith("test/") and metric != "test/loss"):
            assert f"{metrics[metric]:.4g} ± {spread[metric]:.2g}" in line
    assert f"{validated.run}; out-of-fold predictions in predictions_folds.csv" in result
    assert all(f"fold {number} of 3" in out for number in (1, 2, 3))


def test_baselines_are_fitted_to_the_fold(validated: Validated) -> None:
    record = validated.record
    datamodule, _ = build_parts(load(record["experiment"]).from_json(record["fields"]), Fold(2, 3))
    expected = fit_baselines(datamodule, ("val", "test"))
    found = records.load(validated.children[1])["baselines"]
    assert found == {name: pytest.approx(figures, nan_ok=True) for name, figures in expected.items()}


def test_a_class_that_most_folds_lack_is_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three rows of a third class in five folds: auroc was 0.67 in the folds without it, though all was right."""
    rng = np.random.default_rng(0)
    rows = [[f"{5 * (number % 2) + rng.normal(0, 0.1):.4f}", "ab"[number % 2]] for number in range(97)]
    rows += [["20.0", "c"], ["20.1", "c"], ["20.2", "c"]]
    pd.DataFrame(rows, columns=["x", "kind"]).to_csv(tmp_path / "rare.csv", index=False)
    experiment = TableLogistic(data_dir=tmp_path / "rare.csv", target="kind")
    assert commands.run_all([experiment], cli.RunFlags(folds=5)) == 0
    run, out = only_run(), capsys.readouterr().out
    children = [records.load(run / f"fold-{number}") for number in range(1, 6)]
    lacking = [child for child in children if child["data"]["class_counts"]["test"]["c"] == 0]
    assert len(lacking) >= 2, "the premise"
    for child in lacking:
        assert child["metrics"]["test/auroc"] == child["metrics"]["test/balanced_acc"] == 1
        assert any(note.startswith("test has no example of class c: left out") for note in child["data"]["notes"])
    assert out.count("NOTE       test has no example of class c") == len(lacking)


def test_groups_stay_in_one_fold(houses: Path) -> None:
    flags = ("--target", "price", "--columns.ignored", "size", "--columns.group", "sold", "--max-epochs", "1")
    assert call(EXPERIMENTS / "tables.py:TableLinear", "--data-dir", houses, "--folds", "3", *flags) == 0
    sold = {row["id"]: row["sold"] for row in rows_of(houses)}
    fold_of: dict[str, set[str]] = {}
    for row in rows_of(only_run() / "predictions_folds.csv"):
        fold_of.setdefault(sold[row["id"]], set()).add(row["fold"])
    assert {len(folds) for folds in fold_of.values()} == {1}
    assert len(fold_of) == len(set(sold.values())) > 20
    for child in only_run().glob("fold-*"):
        parts = [{sold[name] for name in part} for part in json.loads((child / "split.json").read_text()).values()]
        assert sum(map(len, parts)) == len(set.union(*parts)), "nor in train and val both"


def test_a_given_test_split_is_not_looked_at(houses: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(houses)
    for name, part in {"train": frame[:80], "val": frame[80:100], "test": frame[100:]}.items():
        (tmp_path / "x").mkdir(exist_ok=True)
        part.to_csv(tmp_path / "x" / f"{name}.csv", index=False)
    assert validate(Linear, tmp_path / "x", count=2) == 0
    before = (only_run() / "predictions_folds.csv").read_text()
    assert sorted(row["id"] for row in rows_of(only_run() / "predictions_folds.csv")) == sorted(frame["id"][:80])
    frame[100:].assign(price=1).to_csv(tmp_path / "x" / "test.csv", index=False)
    shutil.rmtree(records.runs_dir())
    assert validate(Linear, tmp_path / "x", count=2) == 0
    assert (only_run() / "predictions_folds.csv").read_text() == before


# ------------------------------------------------------------------------------------------------------------- going on
def mended(run: Path) -> None:
    """Take the bug away, as a user edits the experiment's file."""
    record = records.load(run)
    records.Record.read(run).update(fields=record["fields"] | {"broken": False})


@pytest.mark.parametrize("kind", [Breaks, Interrupts])
def test_an_unfinished_cross_validation_goes_on_with_what_is_missing(
    kind: type[Breaks], houses: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted = kind is Interrupts
    assert validate(kind, houses) == (130 if interrupted else 1)
    run, shown = only_run(), capsys.readouterr()
    record = records.load(run)
    assert record["state"] == ("interrupted" if interrupted else "failed")
    assert ("SIGINT" if interrupted else "fold two breaks") in record["reason"]
    states = [records.load(run / f"fold-{number}")["state"] for number in (1, 2)]
    assert states == ["done", record["state"]]
    assert not (run / "fold-3").exists()
    assert not (run / "predictions_folds.csv").exists()
    if interrupted:
        assert f"scripts/run.py --resume {run}" in shown.out
        assert shown.out.count("--resume") == 1, "the whole, and not the fold"
        assert (run / "fold-2" / "checkpoints" / "last.ckpt").is_file()
    before = files(run / "fold-1")
    mended(run)
    records.Record.read(run / "fold-2").update(started="2020-01-01T00:00:00Z")
    assert call("--resume", run) == 0
    assert records.load(run / "fold-2")["started"].startswith("2020"), "gone on with, not begun anew over its own files"
    assert only_run() == run, "in the same directory"
    assert files(run / "fold-1") == before, "what was done is left as it was"
    after = records.load(run)
    assert (after["state"], after["folds"]) == ("done", 3)
    assert [records.load(run / f"fold-{number}")["state"] for number in (1, 2, 3)] == ["done"] * 3
    assert len(rows_of(run / "predictions_folds.csv")) == 120
    if interrupted:
        assert "resume     from" in capsys.readouterr().out, "the fold itself from its last checkpoint"
        return
    shutil.rmtree(run)
    assert validate(Linear, houses) == 0
    straight = records.load(only_run())
    assert after["metrics"] == pytest.approx(straight["metrics"], rel=1e-4)
    assert after["spread"] == pytest.approx(straight["spread"], rel=1e-3)


def test_baselines_that_were_asked_for_are_fitted_after_the_break_too(houses: Path) -> None:
    assert validate(Breaks, houses, baselines=True) == 1
    run = only_run()
    mended(run)
    assert call("--resume", run) == 0, "the command that an interrupted run prints"
    record = records.load(run)
    assert set(record["baselines"]) == {"mean", "ridge regression", "gradient boosting"}
    assert all("baselines" in records.load(run / f"fold-{number}") for number in (1, 2, 3))


@pytest.mark.parametrize("kind", [Breaks, Interrupts])
def test_data_that_have_changed_on_the_way_are_refused(
    kind: type[Breaks], houses: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(shutil.copy(houses, tmp_path / "houses.csv"))
    assert validate(kind, data) != 0
    run = only_run()
    mended(run)
    frame = pd.read_csv(data)
    frame.assign(price=frame["price"] + 1000).to_csv(data, index=False)
    assert "the data has changed" in refusal(capsys, "--resume", run), "else folds of two tables are put together"
    assert not (run / "predictions_folds.csv").exists()
    shutil.copy(houses, data)
    assert call("--resume", run) == 0


def test_a_finished_one_refuses_to_go_on(houses: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate(Linear, houses, count=2) == 0
    before = files(only_run())
    capsys.readouterr()
    assert call("--resume", only_run()) == 1
    shown = capsys.readouterr()
    assert f"{only_run()}: the cross-validation is done. Start a new one" in shown.err
    assert "Traceback" not in shown.err
    assert files(only_run()) == before


def test_the_number_of_folds_cannot_change_on_the_way(houses: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate(Breaks, houses) == 1
    run = only_run()
    mended(run)
    before = files(run)
    capsys.readouterr()
    assert "--folds" in refusal(capsys, "--resume", run, "--folds", "4"), "else rows are predicted twice"
    assert files(run) == before


def test_a_run_without_folds_is_not_made_one_with_folds(houses: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runner.run(Linear(data_dir=houses))
    run = only_run()
    before = files(run)
    assert "--folds" in refusal(capsys, "--resume", run, "--folds", "2")
    assert files(run) == before


def test_a_single_fold_can_be_resumed(houses: Path) -> None:
    assert validate(Interrupts, houses) == 130
    run = only_run()
    mended(run / "fold-2")
    assert call("--resume", run / "fold-2", "--test") == 0
    child = records.load(run / "fold-2")
    assert (child["state"], child["fold"]) == ("done", {"number": 2, "count": 3, "held_out": "test"})
    assert child["data"]["split"].startswith("fold 2 of 3")


# ------------------------------------------------------------------------------------------------------ what is refused
@pytest.mark.parametrize("count", ["1", "0", "-3"])
def test_fewer_than_two_folds_are_refused(count: str) -> None:
    with pytest.raises(InputError, match=f"--folds {count}: at least 2"):
        cli.parse([str(EXPERIMENTS / "tables.py"), "--folds", count])


@pytest.mark.parametrize(("kind", "target"), [("TableLinear", "price"), ("TableLogistic", "size")])
def test_too_few_rows_for_the_folds_are_refused(
    kind: str, target: str, houses: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = pd.read_csv(houses).assign(size=["small", "large"] * 60)[:12]
    few.to_csv(tmp_path / "few.csv", index=False)
    flags = ("--target", target, "--max-epochs", "1", "--folds", "13")
    assert call(EXPERIMENTS / f"tables.py:{kind}", "--data-dir", tmp_path / "few.csv", *flags) == 1
    err = capsys.readouterr().err
    assert "few.csv: " in err
    assert "cannot be divided into 13 parts" in err
    assert "Traceback" not in err
    record = records.load(only_run())
    assert record["state"] == "failed"
    assert "cannot be divided into 13 parts" in record["reason"]


def test_a_dry_run_shows_the_first_fold_and_writes_nothing(
    houses: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--target", "price", "--columns.ignored", "size", "--folds", "3", "--dry-run", "--baselines")
    assert call(EXPERIMENTS / "tables.py:TableLinear", "--data-dir", houses, *flags) == 0
    out = capsys.readouterr().out
    assert "fold 1 of 3" in out
    assert "test      40" in out
    assert "none (dry run)" in out
    assert not records.runs_dir().exists()
    assert not list(tmp_path.rglob("*.json"))


def test_every_experiment_takes_the_flag() -> None:
    for name in ("tables.py", "texts.py", "images.py", "imdb_bert.py", "digits.py"):
        command = cli.parse([str(EXPERIMENTS / name), "--folds", "4", "--baselines"])
        assert (command.flags.folds, command.flags.baselines) == (4, True)
        assert isinstance(command.experiments[0], load(str(EXPERIMENTS / name)))
