"""Tables of images: targets of three kinds, splits, what is refused by name, and what is left out and counted."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from src.configs.spec import TargetKind
from src.datamodules import Fold, ImageTable
from src.datamodules.synthetic import sheets
from src.experiment import InputError

COUNT = 40
TAGS = ("", "cat", "dog", "cat;dog", "cat; fur")
ROWS = [
    {
        "path": f"images/{i:02}.png",
        "label": ("cat", "dog")[i % 2],
        "labels": TAGS[i % 5],
        "age": f"{i / 4:.2f}",
        "furry": str(i % 3 // 2),
        "small": ("yes", "no")[i % 2],
    }
    for i in range(COUNT)
]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `images` of forty images, no two alike; not to be changed."""
    folder = tmp_path_factory.mktemp("table") / "images"
    folder.mkdir()
    for i in range(COUNT):
        Image.new("RGB", (8, 8), (6 * i, 255 - 6 * i, i)).save(folder / f"{i:02}.png")
    return folder


@pytest.fixture
def here(images: Path, tmp_path: Path) -> Path:
    """A folder with a link to the images: links may lead out of a table's folder."""
    (tmp_path / "images").symlink_to(images)
    return tmp_path


def write(folder: Path, rows: Sequence[dict[str, str]] = ROWS, name: str = "photos.csv") -> Path:
    with open(folder / name, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
    return folder / name


def changed(row: int, **cells: str) -> list[dict[str, str]]:
    return [{**cell, **cells} if number == row else cell for number, cell in enumerate(ROWS)]


def ready(table: Path | None, predicts: TargetKind = "single_label", target: Any = "", **arguments: Any) -> ImageTable:
    default = {"single_label": "label", "multi_label": "labels", "regression": "age"}[predicts]
    quarantine, fold = (arguments.pop(name, None) for name in ("quarantine", "fold"))
    data = ImageTable(table, target=target or default, predicts=predicts, **{"image_size": 7, **arguments})
    data.quarantine, data.fold = quarantine, fold
    data.setup("fit")
    return data


def everything(data: ImageTable) -> dict[str, Any]:
    """Return path -> target of all splits."""
    return {
        path: target
        for split in data.sizes()
        for path, target in zip(data.ids(split), data.targets(split), strict=True)
    }


# ---------------------------------------------------------------------------------------------------------- the targets
def test_a_class_each(here: Path) -> None:
    data = ready(write(here))
    assert data.spec.classes == ("cat", "dog")
    assert (data.spec.target.kind, data.spec.target.name) == ("single_label", "label")
    assert {path: data.spec.classes[target] for path, target in everything(data).items()} == {
        row["path"]: row["label"] for row in ROWS
    }
    batch = next(iter(data.val_dataloader()))
    shown = batch["image"][:, :, 3, 3].tolist()
    numbers = [int(Path(name).stem) for name in data.ids("val")]
    assert shown == [[6 * i, 255 - 6 * i, i] for i in numbers], "the image is that of the row"


def test_labels_in_one_column(here: Path) -> None:
    data = ready(write(here), "multi_label")
    assert data.spec.classes == ("cat", "dog", "fur")
    wanted = {row["path"]: [float(name in row["labels"]) for name in data.spec.classes] for row in ROWS}
    assert {path: target.tolist() for path, target in everything(data).items()} == wanted
    counts = data.class_counts()
    assert sum(counts[split]["cat"] for split in counts) == 24
    assert data.spec.class_counts == tuple(counts["train"].values())


def test_a_column_for_each_label(here: Path) -> None:
    data = ready(write(here), "multi_label", ("furry", "small"))
    wanted = {row["path"]: [float(row["furry"]), float(row["small"] == "yes")] for row in ROWS}
    assert {path: target.tolist() for path, target in everything(data).items()} == wanted


def test_a_number_is_scaled_by_the_training_rows(here: Path) -> None:
    data = ready(write(here), "regression")
    assert {path: float(target) for path, target in everything(data).items()} == {
        row["path"]: float(row["age"]) for row in ROWS
    }
    train, target = data.targets("train"), data.spec.target
    assert (target.kind, target.name) == ("regression", "age")
    assert (target.mean, target.std) == pytest.approx((float(train.mean()), float(train.std(correction=0))))
    assert data.class_counts() == {}


def test_classes_are_read_as_written_from_any_kind_of_file(here: Path) -> None:
    rows = [{**row, "label": ("001", "01")[i % 2]} for i, row in enumerate(ROWS)]
    tabs = here / "photos.tsv"
    pd.DataFrame(rows).to_csv(tabs, index=False, sep="\t")
    parquet = here / "photos.parquet"
    pd.DataFrame(rows).to_parquet(parquet)
    found = [ready(path) for path in (write(here, rows), tabs, parquet)]
    assert {data.spec.classes for data in found} == {("001", "01")}
    assert len({data.fingerprint for data in found}) == 1


def test_the_fingerprint_is_of_targets_too(here: Path) -> None:
    before = ready(write(here)).fingerprint
    assert ready(write(here, changed(3, label="cat"))).fingerprint != before
    assert ready(write(here, ROWS[::-1])).fingerprint == before


# ----------------------------------------------------------------------------------------------------------- the splits
@pytest.mark.parametrize("predicts", ["single_label", "multi_label"])
def test_classes_and_labels_have_equal_shares_of_the_splits(here: Path, predicts: TargetKind) -> None:
    data = ready(write(here), predicts)
    assert data.loaded.split.startswith("by class, val 15%" if predicts == "single_label" else "by label, val 15%")
    whole = np.mean([list(counts.values()) for counts in data.class_counts().values()], axis=0) * 3
    for split, counts in data.class_counts().items():
        share = data.sizes()[split] / COUNT
        assert np.abs(np.array(list(counts.values())) - share * whole).max() < 2
    again = ready(write(here), predicts)
    assert [again.ids(split) for split in again.sizes()] == [data.ids(split) for split in data.sizes()]


def test_a_split_column_is_taken_as_it_is(here: Path) -> None:
    spelt = ("Training", "train", "valid", "validation", "TEST")
    data = ready(write(here, [{**row, "split": spelt[i % 5]} for i, row in enumerate(ROWS)]), "regression")
    assert data.loaded.split == "as given"
    assert data.loaded.whole is None
    assert [list(data.ids(split)) for split in ("train", "val", "test")] == [
        [row["path"] for i, row in enumerate(ROWS) if i % 5 in rest] for rest in ((0, 1), (2, 3), (4,))
    ]


def test_without_val_rows_they_are_taken_from_train(here: Path) -> None:
    data = ready(write(here, [{**row, "split": "test" if i < 10 else "train"} for i, row in enumerate(ROWS)]))
    assert data.sizes() == {"train": 26, "val": 4, "test": 10}
    assert list(data.ids("test")) == [row["path"] for row in ROWS[:10]]
    assert "as given, but val 15% of train by class" in data.loaded.split


@pytest.mark.parametrize("predicts", ["single_label", "multi_label", "regression"])
def test_folds_test_each_image_once(here: Path, predicts: TargetKind) -> None:
    folds = [ready(write(here), predicts, fold=Fold(number, 4)) for number in (1, 2, 3, 4)]
    assert sorted(name for data in folds for name in data.ids("test")) == sorted(row["path"] for row in ROWS)
    assert len({data.fingerprint for data in folds}) == 1
    for data in folds:
        names = [{*data.ids(split)} for split in ("train", "val", "test")]
        assert sum(map(len, names)) == len(set.union(*names)) == COUNT
        if predicts == "multi_label":
            assert data.class_counts()["test"]["cat"] == 6


# ------------------------------------------------------------------------------------------------------ what is refused
def refusal(table: Path, *arguments: Any, **more: Any) -> str:
    with pytest.raises(InputError) as error:
        ready(table, *arguments, **more)
    return str(error.value)


def test_a_table_without_the_columns_is_refused(here: Path) -> None:
    table = write(here)
    assert "--path-column paths: no such column" in refusal(table, path_column="paths")
    said = refusal(table, target="lable")
    assert "--target lable: no such column" in said
    assert "Did you mean label?" in said
    assert "several columns are several labels" in refusal(table, "regression", ("age", "furry"))
    assert "--target-kind regression: this experiment predicts single_label" in refusal(table, target_kind="regression")
    header = here / "header.csv"
    header.write_text("path,label\n")
    assert "0 of 0 rows" in refusal(header)


def test_what_is_no_table_is_refused(here: Path) -> None:
    assert (
        "a folder. Name a table of images (.csv, .tsv, .parquet, .jsonl, .ndjson, .json) with a column path"
        in refusal(here)
    )
    assert "no such file" in refusal(here / "missing.csv")
    (here / "photos.docx").touch()
    assert "photos.docx: not a table. Expected one of .csv" in refusal(here / "photos.docx")


@pytest.mark.parametrize("path", ["../outside.png", "images/../../outside.png", "/outside.png"])
def test_a_path_that_leaves_the_folder_is_refused(here: Path, path: str) -> None:
    said = refusal(write(here, changed(7, path=path)))
    assert f"1 paths of column path leave the table's folder: '{path}' (rows 7, counted from 0)" in said
    assert "Put the table into a folder above the images, or link" in said


def test_paths_that_stay_in_the_folder_are_taken(here: Path) -> None:
    rows = changed(0, path=str(here / "images/00.png"))
    rows[1] = {**ROWS[1], "path": "images/../images/01.png"}
    rows[2] = {**ROWS[2], "path": "images/..02.png"}
    Image.new("RGB", (8, 8)).save((here / "images").resolve() / "..02.png")
    data = ready(write(here, rows))
    assert {row["path"] for row in rows[:3]} <= everything(data).keys()
    assert data.notes == []


def test_cells_that_cannot_be_read_are_refused(here: Path) -> None:
    assert "1 cells of column path are empty (rows 4, counted from 0)" in refusal(write(here, changed(4, path="")))
    assert "'old' (rows 5, counted from 0)" in refusal(write(here, changed(5, age="old")), "regression")
    said = refusal(write(here, changed(5, furry="maybe")), "multi_label", ("furry", "small"))
    assert "label column furry say neither yes nor no: 'maybe' (rows 5" in said
    rows = [{**row, "split": "hold" if i == 9 else "train"} for i, row in enumerate(ROWS)]
    assert "are neither train, val nor test: 'hold' (rows 9, counted from 0)" in refusal(write(here, rows))
    rows = [{**row, "split": "test"} for row in ROWS]
    assert "column split has no row for train" in refusal(write(here, rows))


def test_a_class_that_train_has_not_is_refused(here: Path) -> None:
    rows = [{**row, "split": ("train", "val")[i > 30]} for i, row in enumerate(changed(35, label="cow"))]
    assert "val has a class in column label that train has not: cow" in refusal(write(here, rows))
    rows = [{**row, "split": ("train", "val")[i > 30]} for i, row in enumerate(changed(35, labels="cow;cat"))]
    assert "val has a label in column labels that train has not: cow" in refusal(write(here, rows), "multi_label")


def test_nothing_to_predict_is_refused(here: Path) -> None:
    assert "one class only, cat" in refusal(write(here, [{**row, "label": "cat"} for row in ROWS]))
    assert "no label at all" in refusal(write(here, [{**row, "labels": ""} for row in ROWS]), "multi_label")
    assert "always 3" in refusal(write(here, [{**row, "age": "3"} for row in ROWS]), "regression")


# -------------------------------------------------------------------------------------- what is left out, what is noted
def test_missing_and_broken_files_are_left_out_by_name_and_too_many_stop_the_run(here: Path, images: Path) -> None:
    (here / "broken.png").write_text("no image")
    rows = changed(3, path="images/gone.png")
    rows[4] = {**ROWS[4], "path": "broken.png"}
    table = write(here, rows)
    data = ready(table)
    assert sum(data.sizes().values()) == COUNT - 2
    (note,) = data.notes
    assert note.startswith("2 of 40 files do not open and are left out: ")
    assert f"{here}/images/gone.png (No such file or directory)" in note
    assert f"{here}/broken.png (not an image)" in note
    whole = everything(ready(write(here, name="whole.csv")))
    there = everything(data)
    assert there == {name: target for name, target in whole.items() if name in there}, "no target shifts"
    table = write(here, [{**row, "path": "gone.png"} if i < 3 else row for i, row in enumerate(ROWS)])
    said = refusal(table)
    assert "3 of 40 files do not open as images, more than the 5%" in said
    assert f"{here}/gone.png (No such file or directory)" in said
    assert "Repair or remove them" in said


def test_rows_without_a_target_are_left_out_and_too_many_stop_the_run(here: Path) -> None:
    for predicts, name in (("single_label", "label"), ("regression", "age")):
        data = ready(write(here, changed(6, **{name: ""})), predicts)  # pyright: ignore[reportArgumentType]
        assert sum(data.sizes().values()) == COUNT - 1
        assert ROWS[6]["path"] not in everything(data)
        assert f"1 of 40 rows have no {name} and are left out" in data.notes
        wanted = {row["path"]: row[name] for row in ROWS}
        for path, target in everything(data).items():
            value = f"{float(target):.2f}" if predicts == "regression" else data.spec.classes[int(target)]
            assert value == wanted[path], "the targets after the row that is left out do not shift"
    rows = [{**row, "label": "" if i < 3 else row["label"]} for i, row in enumerate(ROWS)]
    assert "3 of 40 rows have none (rows 0, 1, 2, counted from 0). Fill or remove them" in refusal(write(here, rows))
    rows = [{**row, "labels": "" if i < 10 else row["labels"]} for i, row in enumerate(ROWS)]
    data = ready(write(here, rows), "multi_label")
    assert sum(data.sizes().values()) == COUNT, "no label is a target too"


def test_an_image_of_several_rows_or_splits_is_noted(here: Path, images: Path) -> None:
    rows = [{**row, "split": ("train", "val")[i >= 30]} for i, row in enumerate(ROWS)]
    (here / "copy.png").write_bytes((images / "00.png").read_bytes())
    rows[35] = {**rows[35], "path": "copy.png"}
    rows[5] = {**rows[5], "path": rows[7]["path"]}
    notes = ready(write(here, rows), target_kind="single_label").notes
    assert len(notes) == 2
    assert notes[0] == "1 rows name an image that an earlier row names"
    assert notes[1] == "1 images are in more than one split, which flatters the score: images/00.png, copy.png"


def test_a_target_of_another_kind_is_noted_until_it_is_confirmed(here: Path) -> None:
    table = write(here, [{**row, "age": str(i % 4)} for i, row in enumerate(ROWS)])
    (note,) = ready(table, "regression").notes
    assert "column age: its 4 distinct numbers are read as numbers; they could be classes" in note
    assert "--target-kind regression confirms" in note
    assert ready(table, "regression", target_kind="regression").notes == []
    table = write(here, [{**row, "labels": row["labels"] or "cat"} for row in ROWS])
    (note,) = ready(table, target="labels").notes
    assert "read as one class each; they could be several labels" in note


def test_a_quarantine_list_leaves_out_by_path(here: Path) -> None:
    table = write(here)
    whole = ready(table, "multi_label")
    listed = whole.ids("train")[2]
    quarantine = here / "list.csv"
    quarantine.write_text(f"id,split,why\n{listed},train,odd\n")
    data = ready(table, "multi_label", quarantine=quarantine)
    assert {*data.ids("train")} == {*whole.ids("train")} - {listed}
    assert everything(data).keys() == everything(whole).keys() - {listed}
    assert all(torch.equal(target, everything(whole)[name]) for name, target in everything(data).items())


# ------------------------------------------------------------------------------------------------------ without a table
@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    sizes = {"train": 40, "val": 12, "test": 12}
    monkeypatch.setattr(sheets, "draw_table", partial(sheets.draw_table, sizes))
    return sizes


@pytest.mark.parametrize("predicts", ["single_label", "multi_label", "regression"])
def test_sheets_stand_in_and_say_so(few: dict[str, int], predicts: TargetKind, tmp_path: Path) -> None:
    data = ready(None, predicts, "asked", path_column="file")
    assert data.sizes() == few
    assert data.loaded.fallback
    assert "NOT photographs" in data.loaded.source
    assert data.spec.target.kind == predicts
    assert data.notes == []
    with pytest.raises(InputError, match=r"--data-dir .* and --source drawn: give one of the two"):
        ready(write(tmp_path), predicts, source="drawn")


def test_a_sheet_shows_what_its_row_says(few: dict[str, int]) -> None:
    frame = pd.read_csv(sheets.draw_table(), keep_default_na=False)
    there = frame["shapes"] != ""
    assert (frame["largest"][~there] == "empty").all()
    shapes = [str(cell).split(";") for cell in frame["shapes"][there]]
    assert all(str(name) in names for name, names in zip(frame["largest"][there], shapes, strict=True))
    assert ((frame["area"] > 0) == there).all()
    assert {"circle", "square", "triangle"} == {name for names in shapes for name in names}
    one, other = (sheets.draw(np.random.default_rng(5)) for _ in range(2))
    assert one[0].tobytes() == other[0].tobytes()
    assert one[1] == other[1]
