"""auto: what a file holds is found out, models and settings are tried in time, and the best are averaged into a run."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Script, own_home
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from experiments.tables import TableLinear, TableRegression
from src.configs.spec import TargetKind
from src.datamodules import Table
from src.experiment import InputError, Perceptron, Search, choice
from src.inference.predictor import predict
from src.runs import records, state
from src.studies import auto as studies
from src.studies.any_data import look_at
from src.studies.selection import ROUNDS, loss, select

pytestmark = pytest.mark.usefixtures("quiet")


# ---------------------------------------------------------------------------------------------------------- selection
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 6))
@pytest.mark.parametrize("kind", ["single_label", "multi_label", "regression"])
def test_no_member_alone_is_better_than_the_chosen_average(kind: TargetKind, seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    target = random.integers(0, 2, (40, 3) if kind == "multi_label" else 40)
    if kind == "single_label":
        members = random.dirichlet([1.0, 1.0], (count, 40))
    elif kind == "multi_label":
        members = random.random((count, 40, 3))
    else:
        members = random.normal(size=(count, 40))
    shares = select(kind, [*members], target)
    assert len(shares) == count
    assert sum(shares) == pytest.approx(1)
    assert min(shares) >= 0
    chosen = loss(kind, np.average(members, 0, shares), target)
    assert chosen <= min(loss(kind, one, target) for one in members) + 1e-12


def test_the_shares_of_two_members_are_the_best_there_are() -> None:
    random = np.random.default_rng(0)
    target = random.normal(size=200)
    members = [target + random.normal(size=200), target + 2 * random.normal(size=200)]
    first, _ = select("regression", members, target)
    grid = [k / ROUNDS for k in range(ROUNDS + 1)]
    best = min(grid, key=lambda share: loss("regression", share * members[0] + (1 - share) * members[1], target))
    assert first == pytest.approx(best, abs=1.5 / ROUNDS)
    assert 0.7 < best < 0.9, "the premise: variances of 1 and 4 make shares of 0.8 and 0.2"


def test_the_loss_of_classes_is_scikit_learns() -> None:
    prob = np.random.default_rng(0).dirichlet([1.0, 1.0, 1.0], 50)
    target = np.arange(50) % 3
    assert loss("single_label", prob, target) == pytest.approx(log_loss(target, prob))


# ----------------------------------------------------------------------------------------------------- what data are
def table(folder: Path, **columns: Sequence[Any]) -> Path:
    pd.DataFrame(columns).to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


SENTENCES = [f"the train number {number} was late again today" for number in range(40)]
COLOURS = ["red", "green", "blue", "grey"] * 10


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"size": range(40), "price": [1.5 * row for row in range(40)]}, ("table", "regression", "")),
        ({"size": range(40), "rooms": [1, 2, 3, 4] * 10}, ("table", "single_label", "")),
        ({"colour": COLOURS, "size": range(40), "kind": ["a", "b"] * 20}, ("table", "single_label", "")),
        ({"size": range(40), "tags": ["a;b", "b", "a", "b;c"] * 10}, ("table", "multi_label", "")),
        ({"id": range(40), "body": SENTENCES, "team": ["a", "b"] * 20}, ("text", "single_label", "body")),
        ({"body": SENTENCES, "stars": np.linspace(0, 5, 40)}, ("text", "regression", "body")),
        (
            {"body": SENTENCES, "size": range(40), "colour": COLOURS, "y": ["a", "b"] * 20},
            ("table", "single_label", ""),
        ),
    ],
)
def test_a_table_tells_what_it_holds(tmp_path: Path, columns: dict[str, Any], expected: tuple[str, ...]) -> None:
    path = table(tmp_path, **columns)
    found = look_at(path, [[*columns][-1]])
    assert (found.input, found.predicts, found.column) == expected
    assert found.reasons, "why is said"


def test_images_are_found_in_folders_and_tables(images: Path, tmp_path: Path) -> None:
    found = look_at(images)
    assert (found.input, found.predicts, found.target) == ("image", "single_label", ())
    first = [path for path in sorted(images.rglob("*")) if path.is_file()][:4]
    for path in first:
        shutil.copy(path, tmp_path)
    found = look_at(table(tmp_path, file=[path.name for path in first], age=[1.5, 2.5, 3.5, 4.5]), ["age"])
    assert (found.input, found.predicts, found.column) == ("image", "regression", "file")


def test_what_the_user_says_comes_first(tmp_path: Path) -> None:
    path = table(tmp_path, body=SENTENCES, other=COLOURS, label=[1, 2, 3, 4] * 10)
    found = look_at(path, input="text", predicts="regression")
    assert (found.input, found.predicts, found.column, found.target) == ("text", "regression", "body", ("label",))


@pytest.mark.parametrize(
    ("target", "said"),
    [([], "--target: name the column to predict. There: a, b"), (["c"], "--target c: no such column in .*There: a, b")],
)
def test_a_target_that_is_not_there_is_asked_for(tmp_path: Path, target: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        look_at(table(tmp_path, a=[1, 2], b=[1, 2]), target)


def test_what_is_no_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.pdf").touch()
    with pytest.raises(InputError, match="neither a table"):
        look_at(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        look_at(tmp_path / "gone.csv")


# ---------------------------------------------------------------------------------------------------------- the whole
class Deep(TableRegression):
    """Two settings beside its default."""

    search = Search({"mlp.width": choice(8, 16)}, trials=2)
    mlp = Perceptron(width=8)
    max_epochs = 2
    batch_size = 16
    target = "price"


class Solved(TableLinear):
    """As it stands."""

    target = "price"


class Broken(Solved):
    """Has no such column."""

    target = "prize"


class Slow(Solved):
    """Takes long before it trains."""

    def datamodule(self) -> Table:
        time.sleep(60)
        raise AssertionError


@pytest.fixture(scope="module")
def made(houses: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with own_home(tmp_path_factory.mktemp("auto")):
        given = [kind(data_dir=houses) for kind in (Solved, Broken, Deep)]
        return studies.auto(given, 60.0)


def test_models_and_their_settings_are_tried(made: Path) -> None:
    board = pd.read_csv(made / "leaderboard.csv", keep_default_na=False)
    assert set(board["run"]) >= {"Solved/default", "Deep/default"}
    assert len(board) in (3, 4)
    assert not any(run.startswith("Broken") for run in board["run"])
    assert set(board["setting"]) - {""} <= {"mlp.width 8", "mlp.width 16"}
    assert list(board["loss"]) == sorted(board["loss"])
    assert (board["fit_s"] > 0).all()
    assert (board["predicted_per_s"] > 0).all()
    record = records.load(made)
    assert record["state"] == "done"
    assert record["reason"] == f"{len(board)} runs of 3 models"
    assert not any(name.startswith("test/") for name in record["metrics"]), "nobody has asked for a test"
    assert all(records.load(made / run)["tests_read"] == 0 for run in board["run"])


def test_the_average_is_the_shares_of_its_members(made: Path, houses: Path) -> None:
    record, members = records.load(made), state.children(made)
    board = pd.read_csv(made / "leaderboard.csv")
    averaged = board[board["share"] > 0].sort_values("share", ascending=False, kind="stable")
    assert (averaged["folds"] == studies.FOLDS).all(), "there was time for all"
    assert record["ensemble"] == len(members) == studies.FOLDS * len(averaged)
    assert record["shares"] == pytest.approx(np.repeat(averaged["share"] / studies.FOLDS, studies.FOLDS))
    assert [member.resolve().relative_to(made.resolve()).as_posix() for member in members] == [
        f"{run}-fold-{number}" for run in averaged["run"] for number in range(1, studies.FOLDS + 1)
    ]
    frame = pd.read_csv(houses).drop(columns="price").head(5)
    each = [predict(member, [frame]).frame()["prediction"] for member in members]
    together = predict(made, [frame]).frame()["prediction"]
    assert together.to_numpy() == pytest.approx(np.average(each, 0, record["shares"]), rel=1e-6)
    own = pd.read_csv(made / "predictions_val.csv")
    assert record["metrics"]["val/rmse"] == pytest.approx(
        float(np.sqrt(np.square(own["target"] - own["prediction"]).mean())), rel=1e-4
    )


def test_each_fold_predicts_what_it_was_not_trained_on(made: Path) -> None:
    """Together they predict train and val once; no fold has seen an example of the test split."""
    board = pd.read_csv(made / "leaderboard.csv").set_index("run")
    run = str(board["share"].idxmax())
    folds = [made / f"{run}-fold-{number}" for number in range(1, studies.FOLDS + 1)]
    split = json.loads((made / run / "split.json").read_text())
    parts = [json.loads((fold / "split.json").read_text()) for fold in folds]
    assert sorted(name for part in parts for name in part["val"]) == sorted(split["train"] + split["val"])
    assert all(not {*part["train"]} & {*part["val"]} for part in parts)
    assert all(sorted(part["train"] + part["val"]) == sorted(split["train"] + split["val"]) for part in parts)
    assert all(part["test"] == split["test"] for part in parts)
    own = pd.read_csv(made / "predictions_val.csv").set_index("id")["prediction"]
    expected = np.zeros(len(own))
    for name, share in board["share"][board["share"] > 0].items():
        files = [made / f"{name}-fold-{number}" / "predictions_val.csv" for number in range(1, studies.FOLDS + 1)]
        unseen = pd.concat([pd.read_csv(file).set_index("id")["prediction"] for file in files])
        expected += share * unseen.loc[own.index].to_numpy()
    assert own.to_numpy() == pytest.approx(expected, rel=1e-5)


def test_no_setting_alone_is_better_than_the_average_on_what_no_fold_has_seen(made: Path) -> None:
    board = pd.read_csv(made / "leaderboard.csv").set_index("run")
    numbers = range(1, studies.FOLDS + 1)
    unseen = {
        run: pd.concat([pd.read_csv(made / f"{run}-fold-{number}" / "predictions_val.csv") for number in numbers])
        for run in board.index[board["folds"] > 0]
    }
    tables = {run: table.set_index("id").sort_index() for run, table in unseen.items()}
    mean = sum(board.loc[run, "share"] * table["prediction"] for run, table in tables.items())
    errors = [np.square(table["prediction"] - table["target"]).mean() for table in tables.values()]
    target = next(iter(tables.values()))["target"]
    assert np.square(mean - target).mean() <= min(errors) * (1 + 1e-6)


def test_a_given_validation_split_is_the_one_that_chooses(houses: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(houses)
    for split, part in (("train", frame[:-20]), ("val", frame[-20:])):
        part.to_csv(tmp_path / f"{split}.csv", index=False)
    run = studies.auto([Solved(data_dir=tmp_path)], 20.0)
    assert pd.read_csv(run / "leaderboard.csv")["folds"].tolist() == [0]
    assert len(pd.read_csv(run / "predictions_val.csv")) == 20


def test_what_there_is_no_time_to_train_on_folds_stays_as_it_is(houses: Path) -> None:
    run = studies.auto([Deep(data_dir=houses, max_epochs=5000)], 12.0)
    board = pd.read_csv(run / "leaderboard.csv")
    assert board["folds"].tolist() == [0]
    assert records.load(run)["metrics"]["val/rmse"] <= board["loss"].min() * (1 + 1e-6)
    (member,) = state.children(run)
    assert member.resolve() == (run / "Deep" / "default").resolve()
    own, of_member = [pd.read_csv(one / "predictions_val.csv")["prediction"] for one in (run, member)]
    assert sorted(own) == pytest.approx(sorted(of_member), rel=1e-5)


def test_a_model_that_is_slow_to_begin_leaves_time_for_others(houses: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = studies.auto([Slow(data_dir=houses), Solved(data_dir=houses)], 12.0)
    assert pd.read_csv(run / "leaderboard.csv")["run"].tolist() == ["Solved/default"]
    assert re.search(r"stopped +Slow: not done after \d+ s", capsys.readouterr().out)


def test_it_fails_where_all_models_do(houses: Path) -> None:
    with pytest.raises(InputError, match=r"all models have failed: .*prize"):
        studies.auto([Broken(data_dir=houses)], 20.0)
    (run,) = (records.runs_dir() / "Auto").iterdir()
    assert records.load(run)["state"] == "failed"


def test_a_limit_that_is_too_short_for_any_model_is_said(houses: Path) -> None:
    with pytest.raises(InputError, match="--max-time: no model came to its end"):
        studies.auto([Deep(data_dir=houses, max_epochs=5000)], 4.5)


def test_the_command_makes_a_run_that_predicts(script: Script, houses: Path, tmp_path: Path) -> None:
    done = script("auto.py", houses, "--target", "size", "--max-time", "00:00:12", "--test")
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if len(line.split(maxsplit=1)) == 2)
    assert "single_label" in done.stdout
    assert "test/acc" in lines["test"]
    run = Path(lines["run"])
    predicted = script("predict.py", run, houses, "--out", tmp_path / "out.csv")
    assert predicted.returncode == 0, predicted.stderr
    assert len(pd.read_csv(tmp_path / "out.csv")) == len(pd.read_csv(houses))
