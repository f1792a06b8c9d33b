"""Baselines: scikit-learn's own figures on the very same split, in the record, the summary and TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)
from sklearn.preprocessing import StandardScaler
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from experiments.tables import TableLinear, TableLogistic
from src import tasks
from src.datamodules import ImageFolder, Plain, Table, Tensors, TextTable
from src.experiment import Columns, DataSpec, InputError, RegressionExperiment, TextPrep, Vocabulary
from src.runs import records
from src.training import runner
from src.training.baselines import fit_baselines
from src.training.options import RunOptions

pytestmark = pytest.mark.usefixtures("quiet")

SPLITS = ("train", "val", "test")
Parts = dict[str, Any]


def table(houses: Path, target: str) -> Table:
    ignored = ("size",) if target == "price" else ("price", "area")
    predicts = "regression" if target == "price" else "single_label"
    data = Table(houses, target=target, predicts=predicts, columns=Columns(ignored=ignored))
    data.setup("fit")
    return data


def by_hand(houses: Path, data: Table) -> tuple[Parts, Parts, Parts]:
    """Return for each split plain columns, 0s and 1s with scaled numbers, and targets, made from the file itself."""
    frame = pd.read_csv(houses, keep_default_na=False, na_values={"area": ""}).set_index("id", drop=False)
    sold = pd.to_datetime(frame["sold"])
    plain = pd.DataFrame(
        {
            "area": frame["area"],
            "rooms": frame["rooms"],
            "days": (sold - pd.Timestamp("1970-01-01")).dt.days,
            "year": sold.dt.year,
            "month": sold.dt.month,
            "weekday": sold.dt.day_of_week,
            "day": sold.dt.day_of_year,
            "town": pd.Categorical(frame["town"]),
            "heating": pd.Categorical(frame["heating"]),
        },
        index=frame.index,
    )
    plain = plain[[name for name in plain if name != "area" or data.target_columns[0] == "price"]]
    rows = {split: list(data.ids(split)) for split in SPLITS}
    numbers = plain.select_dtypes("number")
    numbers = numbers.fillna(numbers.loc[rows["train"]].median()).assign(**{"no area": plain.isna().any(axis=1)})
    scaler = StandardScaler().fit(numbers.loc[rows["train"]])
    wide = np.hstack([scaler.transform(numbers), pd.get_dummies(plain[["town", "heating"]]).to_numpy(float)])
    at = {name: position for position, name in enumerate(frame.index)}
    target = (
        frame[data.target_columns[0]].astype("category").cat.codes
        if data.target_columns[0] == "size"
        else frame["price"]
    )
    return (
        {split: plain.loc[names] for split, names in rows.items()},
        {split: wide[[at[name] for name in names]] for split, names in rows.items()},
        {split: target.loc[names].to_numpy() for split, names in rows.items()},
    )


def numbers_of(model: Any, x: Parts, y: Parts) -> dict[str, float]:
    """Return the figures of a regressor fitted to train."""
    model.fit(x["train"], y["train"])
    figures = {"rmse": root_mean_squared_error, "mae": mean_absolute_error, "r2": r2_score}
    return {
        f"{split}/{name}": figure(y[split], model.predict(x[split]))
        for split in ("val", "test")
        for name, figure in figures.items()
    }


def classes_of(model: Any, x: Parts, y: Parts) -> dict[str, float]:
    """Return the figures of a classifier of two classes fitted to train."""
    model.fit(x["train"], y["train"])
    found: dict[str, float] = {}
    for split in ("val", "test"):
        prob = model.predict_proba(x[split])
        found |= {
            f"{split}/acc": accuracy_score(y[split], prob.argmax(1)),
            f"{split}/f1": f1_score(y[split], prob.argmax(1), average="macro"),
            f"{split}/auroc": roc_auc_score(y[split], prob[:, 1]),
        }
    return found


def agree(found: dict[str, dict[str, float]], expected: dict[str, dict[str, float]]) -> None:
    assert list(found) == list(expected)
    for name, figures in expected.items():
        assert {key: found[name][key] for key in figures} == pytest.approx(figures, rel=1e-3, abs=1e-3), name


def test_a_tables_numbers_are_scikit_learns_by_hand(houses: Path) -> None:
    data = table(houses, "price")
    plain, wide, y = by_hand(houses, data)
    boosting = HistGradientBoostingRegressor(categorical_features="from_dtype", random_state=0)
    agree(
        found := fit_baselines(data, ("val", "test")),
        {
            "mean": numbers_of(DummyRegressor(), plain, y),
            "ridge regression": numbers_of(RidgeCV(np.logspace(-2, 4, 13)), wide, y),
            "gradient boosting": numbers_of(boosting, plain, y),
        },
    )
    assert found["ridge regression"]["test/r2"] > 0.8 > 0.1 > found["mean"]["test/r2"]
    names = {f"{split}/{name}" for split in ("val", "test") for name in ("rmse", "mae", "r2", "spearman")}
    assert all(set(figures) == names for figures in found.values())


def test_a_tables_classes_are_scikit_learns_by_hand(houses: Path) -> None:
    data = table(houses, "size")
    plain, wide, y = by_hand(houses, data)
    boosting = HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=0)
    agree(
        found := fit_baselines(data, ("val", "test")),
        {
            "most frequent": classes_of(DummyClassifier(), plain, y),
            "logistic regression": classes_of(LogisticRegression(max_iter=1000), wide, y),
            "gradient boosting": classes_of(boosting, plain, y),
        },
    )
    scores = ("acc", "balanced_acc", "precision", "recall", "f1", "auroc", "ece")
    assert set(found["most frequent"]) == {f"{split}/{name}" for split in ("val", "test") for name in scores}


def test_texts_are_words_to_logistic_regression(texts: Path) -> None:
    data = TextTable(texts, vocabulary=Vocabulary(size=200), prep=TextPrep(max_length=16))
    data.setup("fit")
    frame = pd.read_csv(texts)
    rows = {split: [int(name) for name in data.ids(split)] for split in SPLITS}
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    words.fit(frame["text"].iloc[rows["train"]])
    x = {split: words.transform(frame["text"].iloc[found]) for split, found in rows.items()}
    y = {split: (frame["label"].iloc[found] == "good").to_numpy(int) for split, found in rows.items()}
    expected = {
        "most frequent": classes_of(DummyClassifier(), x, y),
        "TF-IDF, logistic regression": classes_of(LogisticRegression(C=10, max_iter=1000), x, y),
    }
    agree(fit_baselines(data, ("val", "test")), expected)
    assert expected["TF-IDF, logistic regression"]["test/acc"] > 0.9


def test_pictures_are_grey_pixels_to_logistic_regression(images: Path) -> None:
    data = ImageFolder(images, image_size=32)
    data.setup("fit")
    x: Parts = {}
    for split in SPLITS:
        shown: Any = data.examples(split, range(len(data.ids(split))))
        x[split] = shown.numpy().mean(1).reshape(-1, 16, 2, 16, 2).mean((2, 4)).reshape(-1, 256)
    y = {split: np.array(["dog" in Path(name).parts for name in data.ids(split)]).astype(int) for split in SPLITS}
    scaler = StandardScaler().fit(x["train"])
    scaled = {split: scaler.transform(rows) for split, rows in x.items()}
    agree(
        fit_baselines(data, ("val", "test")),
        {
            "most frequent": classes_of(DummyClassifier(), x, y),
            "logistic regression on grey pixels": classes_of(LogisticRegression(max_iter=1000), scaled, y),
        },
    )


def test_held_out_rows_teach_a_baseline_nothing(houses: Path, tmp_path: Path) -> None:
    data = table(houses, "price")
    frame = pd.read_csv(houses)
    spoilt = frame["id"].isin(list(data.ids("test")))
    frame.loc[spoilt, ["area", "price"]] *= 1000
    frame.loc[spoilt, "town"] = "Atlantis"
    frame.to_csv(tmp_path / "houses.csv", index=False)
    other = table(tmp_path / "houses.csv", "price")
    assert list(other.ids("val")) == list(data.ids("val")), "the premise"
    assert fit_baselines(other, ("val",)) == fit_baselines(data, ("val",))
    assert fit_baselines(other, ("test",)) != fit_baselines(data, ("test",))


def test_a_category_of_very_many_values_is_taken(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    codes = rng.permutation(np.repeat(np.arange(300), 3))
    frame = pd.DataFrame({"zip": [f"z{code}" for code in codes], "n": rng.normal(size=900)}).assign(price=codes)
    frame.to_csv(tmp_path / "x.csv", index=False)
    data = Table(tmp_path / "x.csv", target="price", predicts="regression", columns=Columns(category=("zip",)))
    data.setup("fit")
    found = fit_baselines(data, ("val",))
    assert all(np.isfinite(list(figures.values())[:3]).all() for figures in found.values())


def test_data_that_offer_nothing_are_refused() -> None:
    columns = {"features": torch.zeros(4, 2), "target": torch.zeros(4)}
    data = Tensors(dict.fromkeys(SPLITS, columns), DataSpec())
    with pytest.raises(InputError, match="--baselines: Tensors offers scikit-learn nothing to fit"):
        fit_baselines(data, ("val",))


# -------------------------------------------------------------------------------------------------------------- the run
class Linear(TableLinear):
    """Solved at once, for the tests."""

    max_epochs = 1
    target = "price"
    columns = Columns(ignored=("size",))


class Logistic(TableLogistic):
    """Solved at once, for the tests."""

    max_epochs = 1
    target = "size"
    columns = Columns(ignored=("price", "area"))


def board_text(run: Path, tag: str) -> str:
    events = EventAccumulator(str(run))
    events.Reload()
    assert f"{tag}/text_summary" in events.Tags()["tensors"]
    return events.Tensors(f"{tag}/text_summary")[-1].tensor_proto.string_val[0].decode()


def test_a_run_shows_its_baselines_everywhere(houses: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = runner.run(Linear(data_dir=houses), RunOptions(test=True, baselines=True))
    record = records.load(run)
    expected = fit_baselines(table(houses, "price"), ("val", "test"))
    assert record["baselines"] == {name: pytest.approx(found) for name, found in expected.items()}
    out, text = capsys.readouterr().out, board_text(run, "baselines")
    for shown in (out, text):
        for name, found in {"Linear": record["metrics"], **expected}.items():
            (line,) = (line for line in shown.splitlines() if line.replace("|", " ").strip().startswith(f"{name} "))
            for metric in ("rmse", "mae", "r2", "spearman"):
                assert f"{found[f'test/{metric}']:.4g}" in line
        assert "test/rmse" in shown
    assert text.splitlines()[1].count("---") == 5, "a table in Markdown: a name and four metrics"


def test_without_the_test_split_baselines_are_evaluated_on_val(
    houses: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runner.run(Logistic(data_dir=houses), RunOptions(baselines=True))
    record = records.load(run)
    assert set(record["baselines"]) == {"most frequent", "logistic regression", "gradient boosting"}
    assert all(name.startswith("val/") for found in record["baselines"].values() for name in found)
    assert "val/acc" in board_text(run, "baselines")
    assert "most frequent" in capsys.readouterr().out
    assert record["tests_read"] == 0


def test_a_run_without_the_flag_has_none(houses: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = runner.run(Logistic(data_dir=houses))
    assert "baselines" not in records.load(run)
    assert "most frequent" not in capsys.readouterr().out


def test_baselines_can_be_added_to_a_finished_run(houses: Path) -> None:
    run = runner.run(Linear(data_dir=houses), RunOptions(test=True))
    before, checkpoint = records.load(run), (run / "checkpoints" / "best.ckpt").read_bytes()
    assert runner.run(Linear(data_dir=houses), RunOptions(baselines=True, resume=run)) == run
    after = records.load(run)
    assert set(after["baselines"]) == {"mean", "ridge regression", "gradient boosting"}
    assert (run / "checkpoints" / "best.ckpt").read_bytes() == checkpoint
    assert after["metrics"] == pytest.approx(before["metrics"]), "the figures of its test are still there"
    assert after["tests_read"] == before["tests_read"] == 1


class Nothing(RegressionExperiment):
    """Data for which there are no baselines."""

    accelerator = "cpu"

    def datamodule(self) -> Any:
        return Plain((torch.rand(60, 3), torch.rand(60)), (torch.rand(8, 3), torch.rand(8)))

    def task(self, spec: DataSpec) -> tasks.Task:
        return tasks.Task(torch.nn.Linear(3, 1), self.objective(spec), tasks.inputs.PlainInput())


def test_a_run_whose_data_offer_nothing_says_so() -> None:
    with pytest.raises(InputError, match="--baselines: Plain offers scikit-learn nothing to fit"):
        runner.run(Nothing(), RunOptions(baselines=True))
    (path,) = records.runs_dir().glob("*/*/run.json")
    record = records.load(path.parent)
    if (path.parent / "checkpoints" / "last.ckpt").exists():  # better before hours of training; else they are not lost
        assert (record["state"], "val/rmse" in record["metrics"]) == ("done", True)
    else:
        assert record["state"] == "failed"
        assert "--baselines" in record["reason"]
