"""What check_data.py finds: planted faults of images, texts and tables, and nothing in data that have none."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Script
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from experiments.cats_dogs_finetune import CatsDogsScratch
from experiments.digits import DigitsCNN
from experiments.tables import TableClassification, TableLinear, TableRegression
from experiments.texts import TextsLstm
from src.cli.data_check import check_data
from src.cli.parser import CheckFlags
from src.data_checks import Examples, images, tables, texts
from src.data_checks.labels import Evidence, wrong_classes
from src.data_checks.numbers import outliers
from src.datamodules import quarantine
from src.experiment import Columns, Experiment

Checked = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Checked:
    """Check an experiment's data: exit code, the JSON report, what was printed."""

    def call(experiment: Experiment, **flags: Any) -> tuple[int, dict[str, Any], str]:
        report = tmp_path / "report.json"
        code = check_data(experiment, CheckFlags(json=report, **flags), "experiments/x.py")
        return code, json.loads(report.read_text()), capsys.readouterr().out

    return call


def found(report: dict[str, Any], word: str) -> list[dict[str, Any]]:
    return [finding for finding in report["findings"] if word in finding["title"]]


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# ------------------------------------------------------------------------------------------------------------ images
def photograph(seed: int) -> Image.Image:
    """Return an image like no other: clouds of random colours."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    return small.resize((160, 120), Image.Resampling.BICUBIC)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder {train,val,test}/{cat,dog} with 25, 10 and 10 images of each class, all of them different."""
    root, number = tmp_path / "photographs", 0
    for split, count in (("train", 25), ("val", 10), ("test", 10)):
        for kind in ("cat", "dog"):
            (root / split / kind).mkdir(parents=True)
            for position in range(count):
                number += 1
                photograph(number).save(root / split / kind / f"{position:02}.jpg", quality=90)
    return root


def on_images(folder: Path, **fields: Any) -> CatsDogsScratch:
    return CatsDogsScratch(data_dir=folder, image_size=64, accelerator="cpu", **fields)


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "the same": lambda image: image,
    "resized": lambda image: image.resize((110, 83)),
    "enlarged": lambda image: image.resize((400, 300)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "mirrored": ImageOps.mirror,
    "grey": lambda image: image.convert("L"),
}


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("quality", [40, 90])
def test_a_picture_in_two_splits_is_found(photographs: Path, checked: Checked, copy: str, quality: int) -> None:
    with Image.open(photographs / "train/cat/07.jpg") as image:
        COPIES[copy](image).save(photographs / "test/dog/99.jpg", quality=quality)
    code, report, out = checked(on_images(photographs))
    assert code == 1
    (finding,) = found(report, "earlier split")
    assert finding["wrong"]
    (line,) = finding["examples"]
    assert line.startswith("test/dog/99.jpg = train/cat/07.jpg (")
    assert ("mirrored" in line) == (copy == "mirrored")
    assert "labelled dog and cat" in line
    assert [entry[:2] for entry in finding["leave_out"]] == [["train/cat/07.jpg", "train"]], "test stays whole"
    assert "WRONG" in out
    assert line in out


def test_clean_pictures_have_no_findings(photographs: Path, checked: Checked, tmp_path: Path) -> None:
    list_ = tmp_path / "list.csv"
    code, report, out = checked(on_images(photographs), fix=True, list=list_, strict=True)
    assert (code, report["findings"]) == (0, [])
    assert "nothing found" in out
    assert not list_.exists(), "nothing to leave out, no list"


def test_flat_pictures_are_not_all_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    flat = np.full((1, 32, 32), 200, np.float32) + rng.normal(0, 0.5, (6, 32, 32)).astype(np.float32)
    examples = in_splits(["train"] * 3 + ["test"] * 3)
    assert list(images.repeated(examples, flat, exact=False)) == []
    flat[4] = flat[1]
    (pair,) = images.repeated(examples, flat, exact=False)
    assert pair == (1, 4, "the same")


def test_tiny_pictures_count_only_when_equal() -> None:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (4, 32, 32)).astype(np.float32)
    small[2] = small[0] + rng.normal(0, 1, (32, 32))
    examples = in_splits(["train", "train", "test", "test"])
    assert list(images.repeated(examples, small, exact=True)) == []
    assert [pair[:2] for pair in images.repeated(examples, small, exact=False)] == [(0, 2)]
    small[2] = small[0]
    assert [pair[:2] for pair in images.repeated(examples, small, exact=True)] == [(0, 2)]


def test_odd_sizes_are_named(photographs: Path, checked: Checked) -> None:
    photograph(900).resize((1600, 60)).save(photographs / "train/cat/wide.jpg", quality=90)
    photograph(901).resize((20, 20)).save(photographs / "train/dog/small.jpg", quality=90)
    code, report, _ = checked(on_images(photographs))
    assert code == 0, "odd, but no score is wrong for it"
    assert found(report, "wide or tall")[0]["examples"] == ["train/cat/wide.jpg (1600 x 60)"]
    assert found(report, "blown up")[0]["examples"] == ["train/dog/small.jpg (20 x 20)"]
    assert checked(on_images(photographs), strict=True)[0] == 1


# --------------------------------------------------------------------------------------------------------------- texts
def in_splits(splits: Sequence[str], target: Sequence[int] | None = None) -> Examples:
    names = tuple(name for name in ("train", "val", "test") if name in splits)
    labels = np.zeros(len(splits), int) if target is None else np.array(target)
    return Examples(
        names,
        np.array([names.index(s) for s in splits]),
        list(map(str, range(len(splits)))),
        labels,
        ("a", "b"),
        "single_label",
    )


def review(rng: np.random.Generator, label: str) -> str:
    """Return 30 words of which three tell the label."""
    told = [f"{label}{number}" for number in rng.integers(0, 8, 3)]
    return " ".join(rng.permutation([*told, *(f"word{number}" for number in rng.integers(0, 3000, 27))]))


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """A folder of train, val and test tables with 400, 60 and 60 texts, all of them different; the labels are right."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "reviews"
    folder.mkdir()
    for split, count in (("train", 400), ("val", 60), ("test", 60)):
        labels = [("bad", "good")[row % 2] for row in range(count)]
        write(folder / f"{split}.csv", [["text", "label"], *([review(rng, label), label] for label in labels)])
    return folder


def write(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def rows_of(path: Path) -> list[list[str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def on_texts(folder: Path, **fields: Any) -> TextsLstm:
    return TextsLstm(data_dir=folder, accelerator="cpu", **fields)


def test_clean_texts_have_no_findings(reviews: Path, checked: Checked) -> None:
    code, report, _ = checked(on_texts(reviews), strict=True)
    assert (code, report["findings"]) == (0, [])
    assert any("is right for" in line for line in report["checked"])


def test_a_text_in_two_splits_is_found(reviews: Path, checked: Checked) -> None:
    train, test = rows_of(reviews / "train.csv"), rows_of(reviews / "test.csv")
    words = train[10][0].split()
    words[4], words[20] = "other", "words"
    shouted = f"{train[12][0].upper()}!!"
    write(reviews / "test.csv", [*test, [" ".join(words), train[10][1]], [shouted, train[12][1]]])
    code, report, _ = checked(on_texts(reviews))
    assert code == 1
    (finding,) = found(report, "earlier split")
    assert [line.partition(" (")[0] for line in finding["examples"]] == ["test 60 = train 9", "test 61 = train 11"]
    assert [entry[:2] for entry in finding["leave_out"]] == [["9", "train"], ["11", "train"]]


@settings(max_examples=15, deadline=None)
@given(st.integers(14, 200), st.data())
def test_two_words_changed_are_the_same_text(length: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(length)
    all_words = [[f"w{number}" for number in rng.integers(0, 5000, length)] for _ in range(20)]
    at = data.draw(st.lists(st.integers(0, length - 1), min_size=2, max_size=2))
    changed = [word if position not in at else "changed" for position, word in enumerate(all_words[3])]
    examples = in_splits(["train"] * 20 + ["test"])
    assert [pair[:2] for pair in texts.repeated(examples, [*all_words, changed])] == [(3, 20)]
    assert list(texts.repeated(examples, [*all_words, all_words[3][::-1]])) == []


def test_labels_that_were_swapped_are_found(reviews: Path, checked: Checked) -> None:
    train = rows_of(reviews / "train.csv")
    wrong = {str(row) for row in range(3, 400, 21)}
    for row in map(int, wrong):
        train[row + 1][1] = "good" if train[row + 1][1] == "bad" else "bad"
    write(reviews / "train.csv", train)
    test = rows_of(reviews / "test.csv")
    test[1][1] = "good" if test[1][1] == "bad" else "bad"
    write(reviews / "test.csv", test)
    code, report, _ = checked(on_texts(reviews))
    assert code == 0, "a doubtful label is for a person to look at"
    (finding,) = report["findings"]
    named = {line.partition(" labelled")[0] for line in finding["examples"]}
    right = named & {*(f"train {row}" for row in wrong), "test 0"}
    assert len(right) >= 16, "of 19 in train and one in test that were planted"
    assert len(right) >= 0.9 * len(named)


def test_texts_without_words_and_with_two_labels_are_named() -> None:
    some = ["a fine film of this year", "...", "A fine film, of this year!", "short", "word " * 500] + [
        "what a day"
    ] * 9
    report = texts.odd_texts(in_splits(["train"] * len(some), [0, 0, 1, *[0] * 11]), some, texts.in_words(some))
    titles = [finding.title.partition(":")[0] for finding in report]
    assert titles == [
        "texts without a word in them",
        "texts that stand several times with different labels",
        "texts with the very words of another one",
        "unusually long or short texts",
    ]
    assert report[1].examples == ("train 0 (a), train 2 (b)",)
    assert report[3].examples[0] == "train 4 (500 words)"


def test_a_model_that_knows_nothing_doubts_nothing() -> None:
    rng = np.random.default_rng(0)
    examples = in_splits(["train"] * 200, rng.integers(0, 2, 200).tolist())
    said, findings = wrong_classes(examples, Evidence("noise", rng.normal(size=(200, 5))))
    assert findings == []
    assert "not checked" in said


# -------------------------------------------------------------------------------------------------------------- tables
def measures(path: Path, **columns: Any) -> Path:
    """Write a table of 300 rows with three numbers, a category and what they lead to; further columns are added."""
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(300, 3)).round(4)
    kind = rng.choice(["oak", "elm", "ash"], 300)
    price = (100 + 5 * numbers.sum(1) + 3 * (kind == "oak") + rng.normal(0, 2, 300)).round(3)
    given_ = dict(zip(("a", "b", "c"), numbers.T, strict=True)) | {"kind": kind, "price": price}
    given_ |= {"dear": np.where(price > np.median(price), "yes", "no")}
    given_ |= columns
    write(path, [list(given_), *zip(*given_.values(), strict=True)])
    return path


def on_table(path: Path, **fields: Any) -> TableRegression:
    return TableRegression(
        data_dir=path, target="price", accelerator="cpu", columns=Columns(ignored=("dear",)), **fields
    )


def prices(path: Path) -> np.ndarray:
    header, *rows = rows_of(path)
    return np.array([float(row[header.index("price")]) for row in rows])


def test_a_clean_table_has_no_findings(tmp_path: Path, checked: Checked) -> None:
    code, report, _ = checked(on_table(measures(tmp_path / "t.csv")), strict=True)
    assert (code, report["findings"]) == (0, [])


def test_a_leaking_column_is_found(tmp_path: Path, checked: Checked) -> None:
    path = measures(tmp_path / "t.csv")
    noise = np.random.default_rng(1).normal(0, 0.1, 300)
    measures(path, tax=(0.07 * prices(path) + 0.01 * noise).round(4))
    code, report, out = checked(on_table(path))
    assert code == 1
    wrong = [finding["title"].split(" (")[0] for finding in report["findings"] if finding["wrong"]]
    assert wrong == ["column tax alone gives the target away"]
    assert "--columns.ignored tax" in out


def test_columns_and_targets_far_from_zero_are_told_apart(tmp_path: Path, checked: Checked) -> None:
    """Seconds since 1970: five digits, and float32, have the same for all."""
    path = measures(tmp_path / "t.csv")
    seconds, price = 1.7e9 + np.random.default_rng(2).normal(0, 50, 300).round(3), prices(path)
    measures(path, seconds=seconds, ended=(1.7e9 + price).round(3), price=1.7e9 + price)
    _, report, _ = checked(on_table(path))
    (wrong,) = (finding["title"] for finding in report["findings"] if finding["wrong"])
    assert wrong.startswith("column ended alone gives the target away")
    assert not found(report, "single column")
    header, *rows = rows_of(path)
    rows[42][header.index("price")] = str(float(rows[42][header.index("price")]) + 5000)
    write(path, [header, *rows])
    _, report, _ = checked(on_table(path))
    (finding,) = found(report, "targets far from")
    _, _, shown = finding["examples"][0].partition(" 42: ")
    target, _, prediction = shown.partition(", predicted ")
    assert float(target) - float(prediction) == pytest.approx(5000, abs=100)


def test_a_leaking_category_is_found(tmp_path: Path, checked: Checked) -> None:
    path = measures(tmp_path / "t.csv")
    dear = prices(path) > np.median(prices(path))
    sold_to = np.where(dear, *np.random.default_rng(0).choice(["Ann", "Bob", "Cem", "Dee"], (2, 300)))
    sold_to = np.where(dear, np.char.add("rich ", sold_to), sold_to)
    measures(path, sold_to=sold_to)
    experiment = TableClassification(
        data_dir=path, target="dear", accelerator="cpu", columns=Columns(ignored=("price",))
    )
    code, report, _ = checked(experiment)
    assert code == 1
    assert found(report, "column sold_to alone gives the target away")


def test_columns_that_number_the_rows_or_hardly_change_are_named(tmp_path: Path, checked: Checked) -> None:
    rare = np.zeros(300, int)
    rare[[5, 77]] = 1
    path = measures(tmp_path / "t.csv", number=range(1000, 1300), rare=rare)
    code, report, _ = checked(on_table(path))
    assert code == 0
    assert found(report, "column number numbers the rows")
    assert len(report["findings"]) == 1 + len(found(report, "column rare hardly ever changes"))


def test_a_row_in_two_splits_is_found(tmp_path: Path, checked: Checked) -> None:
    header, *rows = rows_of(measures(tmp_path / "t.csv"))
    folder = tmp_path / "split"
    folder.mkdir()
    again = [*rows[10][:4], "99.5", rows[10][5]]  # the same but for its target
    nearly = ["9.75", *rows[11][1:4], "98.25", rows[11][5]]
    write(folder / "train.csv", [header, *rows[:200]])
    write(folder / "val.csv", [header, *rows[200:250]])
    write(folder / "test.csv", [header, *rows[250:], again, nearly])
    code, report, _ = checked(on_table(folder))
    assert code == 1
    assert found(report, "flatters the score")[0]["examples"] == ["test 50 = train 10 (the same)"]
    assert found(report, "single column")[0]["examples"] == ["test 51 = train 11 in all but a"]


def test_rows_of_a_coarse_table_are_alike_by_chance() -> None:
    import pandas as pd

    frame = pd.DataFrame(np.random.default_rng(0).integers(0, 3, (200, 2)), columns=["x", "y"])
    examples = in_splits(["train"] * 150 + ["test"] * 50)
    assert tables.coarse(examples, frame) > 0.9
    assert tables.repeated(examples, frame)[0]


def test_a_slip_in_the_target_is_found(tmp_path: Path, checked: Checked) -> None:
    header, *rows = rows_of(measures(tmp_path / "t.csv"))
    rows[42][4] = str(float(rows[42][4]) * 100)
    write(tmp_path / "t.csv", [header, *rows])
    _, report, _ = checked(on_table(tmp_path / "t.csv"))
    (finding,) = found(report, "targets far from")
    assert " 42: " in finding["examples"][0], "the worst first"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(90, 110), min_size=20, max_size=60), st.sampled_from([0.01, 100.0]))
def test_an_outlier_is_found_and_no_other(values: list[float], factor: float) -> None:
    names = [str(position) for position in range(len(values) + 1)]
    assert outliers(np.array(values), names, "odd") == []
    (finding,) = outliers(np.array([*values, 100 * factor]), names, "odd")
    assert finding.examples == (names[-1],)


def test_fix_lists_swapped_labels_of_train_alone(tmp_path: Path, checked: Checked) -> None:
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, 600)
    places = (rng.normal(0, 1, (600, 4)) + 4 * kind[:, None]).round(3)
    swapped = {int(row) for row in rng.choice(600, 24, replace=False)}
    labels = [("elm", "oak")[k ^ (row in swapped)] for row, k in enumerate(kind)]
    folder, list_ = tmp_path / "trees", tmp_path / "list.csv"
    folder.mkdir()
    for split, start, end in (("train", 0, 400), ("val", 400, 500), ("test", 500, 600)):
        body = [[row, *places[row], labels[row]] for row in range(start, end)]
        write(folder / f"{split}.csv", [["id", "a", "b", "c", "d", "tree"], *body])
    before = digests(folder)
    experiment = TableClassification(data_dir=folder, target="tree", accelerator="cpu")
    code, report, out = checked(experiment, fix=True, list=list_)
    assert code == 0
    (finding,) = found(report, "labels that are likely wrong")
    named = {int(line.split()[1]) for line in finding["examples"]}
    assert len(named & swapped) >= 20, "of 24"
    assert len(named & swapped) >= 0.9 * len(named)
    assert any(row >= 400 for row in named), "val and test are looked at too"
    listed = quarantine.read(list_)
    assert len(listed) >= 5
    assert {entry.split for entry in listed} == {"train"}, "without its hard ones test would flatter"
    assert {int(entry.id) for entry in listed} <= swapped
    assert digests(folder) == before
    assert f"--quarantine {list_}" in out


# -------------------------------------------------------------------------------------------------------------- others
def test_classes_with_few_examples_are_named(tmp_path: Path, checked: Checked) -> None:
    rng = np.random.default_rng(0)
    labels = ["good"] * 300 + ["bad"] * 25
    write(tmp_path / "t.csv", [["text", "label"], *([review(rng, label), label] for label in labels)])
    code, report, _ = checked(on_texts(tmp_path / "t.csv"))
    assert code == 0
    assert found(report, "train is lopsided: good 210, bad 17")
    assert found(report, "classes with fewer than 10 examples in test")[0]["examples"] == ["bad 4"]


def test_digits_are_checked(checked: Checked) -> None:
    code, report, out = checked(DigitsCNN(source="sklearn", accelerator="cpu"))
    assert code == 0
    assert "STAND-IN" in out
    assert found(report, "labels that are likely wrong")
    assert not found(report, "earlier split")


def test_the_script(script: Script, photographs: Path, checked: Checked, tmp_path: Path) -> None:
    """As a user would: check, fix, check again without what is listed."""
    shutil.copy(photographs / "train/cat/03.jpg", photographs / "val/cat/copy.jpg")
    before = digests(photographs)
    here = ("--data-dir", photographs, "--image-size", "64")
    target = "experiments/cats_dogs_finetune.py:CatsDogsScratch"
    list_ = tmp_path / "list.csv"
    done = script("check_data.py", target, *here, "--fix", "--list", list_)
    assert done.returncode == 1, done.stderr
    assert [tuple(entry[:2]) for entry in quarantine.read(list_)] == [("train/cat/03.jpg", "train")]
    code, _, out = checked(on_images(photographs, quarantine=list_), strict=True)
    assert code == 0
    assert f"examples left out by {list_}: train 1" in out
    assert digests(photographs) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "usage: check_data.py EXPERIMENT.py"),
        (("experiments/none.py",), "no such experiment file"),
        (("experiments/images.py", "experiments/texts.py"), "name one experiment"),
        (("experiments/images.py", "--quarantine", "nowhere.csv"), "--quarantine nowhere.csv: no such file"),
        (("experiments/images.py", "--fixx"), "--fix"),
        (("experiments/images.py", "--fix", "--list", "README.md"), "--list README.md: there already"),
    ],
)
def test_a_bad_command_line_is_refused(script: Script, arguments: tuple[str, ...], said: str) -> None:
    done = script("check_data.py", *arguments)
    assert done.returncode == 2
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_fix_adds_to_the_list_that_is_left_out(photographs: Path, checked: Checked, tmp_path: Path) -> None:
    shutil.copy(photographs / "train/cat/03.jpg", photographs / "val/cat/copy.jpg")
    list_ = tmp_path / "list.csv"
    quarantine.write(list_, [quarantine.Entry("test/dog/00.jpg", "test", "blurred")])
    checked(on_images(photographs, quarantine=list_), fix=True, list=list_)
    assert [entry.id for entry in quarantine.read(list_)] == ["test/dog/00.jpg", "train/cat/03.jpg"]


def test_linear_tables_are_checked_too(tmp_path: Path, checked: Checked) -> None:
    experiment = TableLinear(
        data_dir=measures(tmp_path / "t.csv"), target="price", columns=Columns(ignored=("dear",)), accelerator="cpu"
    )
    assert checked(experiment)[0] == 0
