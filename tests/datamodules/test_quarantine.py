"""Lists of examples to leave out: every data module honours them, folds too, and a bad list is refused."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Tiny
from hypothesis import given
from hypothesis import strategies as st

from experiments.cats_dogs_finetune import CatsDogsScratch
from experiments.digits import DigitsCNN
from experiments.tables import TableLinear
from experiments.texts import TextsLstm
from src.datamodules import DataModule, Fold, quarantine
from src.datamodules.quarantine import Entry
from src.experiment import Experiment, InputError, replace
from src.runs import records
from src.studies.cross_validation import cross_validate
from src.training.options import RunOptions
from src.training.runner import run
from src.training.trainer import quieten

KINDS = (CatsDogsScratch, TextsLstm, TableLinear, DigitsCNN)
Made = Callable[..., DataModule]


@pytest.fixture
def made(tiny: Tiny, tmp_path: Path) -> Made:
    """Set up an experiment's data without some examples."""

    def call(kind: type[Experiment], *entries: Entry, fold: Fold | None = None) -> DataModule:
        quarantine.write(tmp_path / "list.csv", entries)
        datamodule = kind(**tiny(kind)).datamodule()
        datamodule.fold, datamodule.quarantine = fold, tmp_path / "list.csv" if entries else None
        datamodule.setup("fit")
        return datamodule

    return call


def firsts(datamodule: DataModule) -> list[Entry]:
    """Return the first example of each split, and another of train."""
    found = [Entry(datamodule.ids(split)[0], split, "for a test") for split in datamodule.sizes()]
    return [*found, Entry(datamodule.ids("train")[-1], "train", 'for "another", with a comma')]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_listed_examples_are_left_out(kind: type[Experiment], made: Made) -> None:
    whole = made(kind)
    entries = firsts(whole)
    left = made(kind, *entries)
    out = {(entry.split, entry.id) for entry in entries}
    for split in whole.sizes():
        assert list(left.ids(split)) == [name for name in whole.ids(split) if (split, name) not in out]
        assert len(left.targets(split)) == len(left.ids(split))
        stays = [i for i, name in enumerate(whole.ids(split)) if (split, name) not in out]
        assert left.targets(split).tolist() == whole.targets(split)[stays].tolist(), "nobody else moves"
    assert left.fingerprint != whole.fingerprint
    assert any(note.startswith("examples left out by") for note in left.notes)
    assert "train 2, val 1" in " ".join(left.notes)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_listed_examples_are_in_no_fold(kind: type[Experiment], made: Made) -> None:
    entries = firsts(made(kind))
    folds = [made(kind, *entries, fold=Fold(number, 3)) for number in (1, 2, 3)]
    tested = [name for fold in folds for name in fold.ids("test")]
    listed = {entry.id for entry in entries}
    assert not {name for fold in folds for split in ("train", "val") for name in fold.ids(split)} & listed
    assert not set(tested) & listed
    assert len(tested) == len(set(tested))


def test_rows_of_two_files_with_the_same_number_are_told_apart(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for split, count in (("train", 60), ("test", 20)):
        with open(folder / f"{split}.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["x", "y"], *([row + 0.5, 2 * row] for row in range(count))])
    quarantine.write(tmp_path / "list.csv", [Entry("7", "test", "odd")])
    experiment = TableLinear(data_dir=folder, target="y")
    found: dict[str, list[str]] = {}
    for number in (1, 2, 3):
        datamodule = experiment.datamodule()
        datamodule.fold, datamodule.quarantine = Fold(number, 3), tmp_path / "list.csv"
        datamodule.setup("fit")
        found.setdefault("folds", []).extend(datamodule.ids("test"))
    assert "7" in found["folds"], "row 7 of train stays"
    datamodule = experiment.datamodule()
    datamodule.quarantine = tmp_path / "list.csv"
    datamodule.setup("fit")
    assert datamodule.sizes()["test"] == 19
    assert "7" not in datamodule.ids("test")
    assert "7" in [*datamodule.ids("train"), *datamodule.ids("val")]


def test_a_run_says_what_is_left_out(
    made: Made, tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quieten()
    whole = made(TableLinear)
    quarantine.write(tmp_path / "list.csv", firsts(whole))
    experiment = TableLinear(**tiny(TableLinear), max_epochs=1, quarantine=tmp_path / "list.csv")
    folder = run(experiment)
    record = records.load(folder)
    assert sum(record["data"]["sizes"].values()) == sum(whole.sizes().values()) - 4
    assert record["data"]["fingerprint"] != whole.fingerprint
    assert record["fields"]["quarantine"] == str(tmp_path / "list.csv")
    said = f"examples left out by {tmp_path / 'list.csv'}: train 2, val 1, test 1"
    assert any(note.startswith(said) for note in record["data"]["notes"])
    assert said in capsys.readouterr().out
    quarantine.write(tmp_path / "list.csv", firsts(whole)[:1])
    with pytest.raises(InputError, match="the data has changed since the run began"):
        run(replace(experiment, max_epochs=2), RunOptions(test=True, resume=folder))


def test_a_cross_validation_leaves_out_too(made: Made, tiny: Tiny, tmp_path: Path) -> None:
    quieten()
    whole = made(TableLinear)
    quarantine.write(tmp_path / "list.csv", firsts(whole))
    folder = cross_validate(TableLinear(**tiny(TableLinear), max_epochs=1, quarantine=tmp_path / "list.csv"), 2)
    rows = (folder / "predictions_folds.csv").read_text().splitlines()[1:]
    assert len(rows) == sum(whole.sizes().values()) - 4


BAD = {
    "": "Its first line must be id,split,why",
    "name,split,why\nh1,train,x\n": "Its first line must be id,split,why",
    "id,split,why\nh1,train\n": "line 2: 2 fields",
    "id,split,why\nh1,training,x\n": "line 2: the split is 'training'",
    'id,split,why\nh1,train,"x\n': "broken quoting",
    "id,split,why\nnobody,train,x\n": "1 of its 1 examples are not in the data",
    "id,split,why\nh1,train,x\nh1,val,x\nh1,test,x\n": "2 of its 3 examples are not in the data",
}


@pytest.mark.parametrize("text", BAD)
def test_a_bad_list_is_refused(text: str, houses: Path, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(text)
    datamodule = TableLinear(data_dir=houses, target="price", quarantine=path).datamodule()
    datamodule.quarantine = path
    with pytest.raises(InputError, match=str(path)) as error:
        datamodule.setup("fit")
    assert BAD[text] in str(error.value)


def test_lists_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        quarantine.read(tmp_path / "nowhere.csv")
    with pytest.raises(InputError, match="cannot be read"):
        quarantine.read(tmp_path)
    (tmp_path / "latin.csv").write_bytes(b"id,split,why\n\xe9,train,x\n")
    with pytest.raises(InputError, match="cannot be read"):
        quarantine.read(tmp_path / "latin.csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        quarantine.write(tmp_path / "file" / "list.csv", [])


def test_nothing_left_of_a_split_is_refused(made: Made) -> None:
    whole = made(TextsLstm)
    with pytest.raises(InputError, match="nothing is left of val"):
        made(TextsLstm, *(Entry(name, "val", "all") for name in whole.ids("val")))


def test_a_class_that_is_gone_from_train_is_refused(made: Made) -> None:
    whole = made(CatsDogsScratch)
    cats = [name for name in whole.ids("train") if "/cat/" in name]
    with pytest.raises(InputError, match="nothing is left of class cat in train"):
        made(CatsDogsScratch, *(Entry(name, "train", "cat") for name in cats))


def test_an_empty_list_leaves_out_nothing(tiny: Tiny, tmp_path: Path) -> None:
    quarantine.write(tmp_path / "list.csv", [])
    datamodule = TableLinear(**tiny(TableLinear)).datamodule()
    datamodule.quarantine = tmp_path / "list.csv"
    datamodule.setup("fit")
    assert any("none, it is empty" in note for note in datamodule.notes)


WRITABLE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"))


@given(st.lists(st.builds(Entry, WRITABLE, st.sampled_from(["train", "val"]), WRITABLE)))
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, entries: list[Entry]) -> None:
    path = tmp_path_factory.mktemp("lists") / "list.csv"
    quarantine.write(path, entries)
    assert quarantine.read(path) == entries
