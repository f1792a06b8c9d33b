"""Prediction on texts: the run directory is enough, rows keep their order, and what is wrong with an input is said."""

from __future__ import annotations

import csv
import io
import json
import random
import runpy
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import tokenizers
import transformers
import warm
from conftest import own_home
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from tokenizers import models, normalizers, pre_tokenizers, processors

from experiments.texts import TextsBert, TextsLstm
from src.experiment import DataSpec, Experiment, InputError, Optim, Recurrent, TextPrep, Vocabulary, replace
from src.inference.batch import predict
from src.resources.cache import cache_dir
from src.runs import records
from src.tasks import SingleLabel
from src.training import runner

ROOT = Path(__file__).resolve().parents[1]
WORDS = ("the", "film", "was", "dull", "bright", "slow", "and", "long", "a", "joy", "to", "see")
Row = dict[str, str]


def draw(count: int) -> list[tuple[str, str]]:
    """Return so many texts of 2 to 30 words, no two alike; the bright ones are good."""
    rng = random.Random(0)
    found: dict[str, str] = {}
    while len(found) < count:
        word, label = rng.choice((("dull", "bad"), ("bright", "good")))
        found[" ".join([*rng.choices(WORDS, k=rng.randint(1, 29)), word])] = label
    return list(found.items())


TABLE = draw(60)


def write_csv(path: Path, rows: Sequence[Sequence[str]], header: Sequence[str] = ("text",)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def train(experiment: Experiment, home: Path) -> Path:
    """Train on the table, and take it and the caches away."""
    data = write_csv(home / "data" / "films.csv", TABLE, ("text", "label"))
    with own_home(home):
        run = runner.run(replace(experiment, data_dir=data, batch_size=8, precision="32-true"))
    shutil.rmtree(data.parent)
    shutil.rmtree(home / "cache")
    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of an LSTM whose data and caches are gone; not to be changed."""
    experiment = TextsLstm(
        vocabulary=Vocabulary(size=200, width=8, vectors="own"),
        lstm=Recurrent(hidden=8),
        prep=TextPrep(max_length=16),
        max_epochs=3,
        optim=Optim(lr=0.03),
    )
    return train(experiment, tmp_path_factory.mktemp("lstm"))


def save_encoder(folder: Path) -> None:
    """Save a tiny BERT with random weights and its tokenizer."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocab = {token: i for i, token in enumerate([*special, *WORDS, *"abcdefghijklmnopqrstuvwxyz"])}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(vocab),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    transformers.BertModel(config).save_pretrained(folder)


@pytest.fixture(scope="module")
def fine_tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a tiny BERT whose encoder, data and caches are gone; not to be changed."""
    home = tmp_path_factory.mktemp("bert")
    save_encoder(home / "encoder")
    run = train(TextsBert(encoder=str(home / "encoder"), prep=TextPrep(max_length=20), validations=1), home)
    shutil.rmtree(home / "encoder")
    return run


def read(text: str) -> list[Row]:
    return list(csv.DictReader(io.StringIO(text)))


def predicted(run: Path, *inputs: Path) -> list[Row]:
    return read(predict(run, inputs)[0])


def probabilities(rows: Sequence[Row]) -> list[Any]:
    """Return P(good) of each row, to be compared within 1e-5."""
    return [pytest.approx(float(row["prob_good"]), abs=1e-5) for row in rows]


def goods(rows: Sequence[Row]) -> list[float]:
    return [float(row["prob_good"]) for row in rows]


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run scripts/predict.py in this process; return the exit code, and what it printed and complained of."""

    def call(*arguments: str | Path, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, arguments)])
        monkeypatch.setattr(sys, "path", [*sys.path])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(ROOT / "scripts" / "predict.py"), run_name="__main__")
        assert isinstance(stop.value.code, int)
        shown = capsys.readouterr()
        return stop.value.code, shown.out, shown.err

    return call


# ------------------------------------------------------------------------------------------------------- the round trip
def test_equals_the_runs_own_evaluation(trained: Path, tmp_path: Path) -> None:
    own = read((trained / "predictions_val.csv").read_text())
    path = write_csv(tmp_path / "val.csv", [TABLE[int(row["id"])] for row in own], ("text", "label"))
    rows = read(predict(trained, [path], calibrate=False).text)
    assert list(rows[0]) == ["id", "label", "prob_bad", "prob_good", "error"]
    assert [row["label"] for row in rows] == [row["label"] for row in own]
    assert goods(rows) == probabilities(own)
    assert len({row["prob_good"] for row in own}) > 5, "the premise: the network tells texts apart"


def test_a_fine_tuned_encoder_needs_the_run_directory_alone(
    fine_tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = shutil.copytree(fine_tuned, tmp_path / "elsewhere" / "renamed")
    monkeypatch.chdir(tmp_path)
    own = read((there / "predictions_val.csv").read_text())
    path = write_csv(tmp_path / "val.csv", [TABLE[int(row["id"])][:1] for row in own])
    rows = read(predict(Path("elsewhere/renamed"), [path], calibrate=False).text)
    assert [row["label"] for row in rows] == [row["label"] for row in own]
    assert goods(rows) == probabilities(own)
    assert len({row["prob_good"] for row in own}) > 5, "the premise: the network tells texts apart"


def test_nothing_is_written_and_training_texts_are_not_asked_for(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = shutil.copytree(trained, tmp_path / "elsewhere" / "renamed")
    monkeypatch.chdir(tmp_path)
    path = write_csv(tmp_path / "x.csv", [("a bright film",)])
    assert predict(Path("elsewhere/renamed"), [path]) == predict(trained, [path])
    before = {file.relative_to(trained) for file in trained.rglob("*")}
    assert {file.relative_to(there) for file in there.rglob("*")} == before
    assert not cache_dir().exists()
    assert not records.runs_dir().exists()


# ------------------------------------------------------------------------------------------------------------- the rows
def test_rows_keep_their_order_whatever_their_length(trained: Path, tmp_path: Path) -> None:
    texts = [TABLE[0][0], "dull", "a bright\nfilm, and\n\nlong", " ".join(WORDS * 40), "bright", *(t for t, _ in TABLE)]
    rows = predicted(trained, write_csv(tmp_path / "x.csv", [(text,) for text in texts]))
    assert [row["id"] for row in rows] == [str(i) for i in range(len(texts))]
    alone = [predicted(trained, write_csv(tmp_path / f"{i}.csv", [(text,)]))[0] for i, text in enumerate(texts[:6])]
    assert goods(rows)[:6] == probabilities(alone)
    assert goods(rows)[5] == probabilities(rows)[0]
    backwards = predicted(trained, write_csv(tmp_path / "y.csv", [(text,) for text in reversed(texts)]))
    assert goods(backwards)[::-1] == probabilities(rows)


def test_the_id_column_names_the_rows(trained: Path, tmp_path: Path) -> None:
    table = [("t-7", "a bright film"), ("t-3", "dull, very dull"), ("t 1", "a joy")]
    rows = predicted(trained, write_csv(tmp_path / "x.csv", table, ("id", "text")))
    assert [row["id"] for row in rows] == ["t-7", "t-3", "t 1"]


@pytest.mark.parametrize("suffix", ["txt", "jsonl", "parquet", "tsv"])
def test_every_format_gives_the_same(trained: Path, tmp_path: Path, suffix: str) -> None:
    texts = [text for text, _ in TABLE[:5]]
    path = tmp_path / f"x.{suffix}"
    if suffix == "parquet":
        parquet.write_table(pyarrow.table({"text": texts}), path)
    else:
        lines = {"txt": texts, "tsv": ["text", *texts], "jsonl": [json.dumps({"text": text}) for text in texts]}
        path.write_text("\n".join(lines[suffix]) + "\n")
    rows = predicted(trained, path)
    assert [row["id"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert goods(rows) == probabilities(predicted(trained, write_csv(tmp_path / "x.csv", [(t,) for t in texts])))


def test_an_empty_text_is_a_row_with_an_error(trained: Path, tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "x.csv", [("a bright film", "1"), ("", "2"), ("   ", "3"), ("dull", "4")], ("text", "n")
    )
    text, failed, _ = predict(trained, [path])
    rows = read(text)
    assert failed == 2
    assert [row["error"] for row in rows] == ["", "empty text", "empty text", ""]
    for row in rows[1:3]:
        assert (row["label"], row["prob_bad"], row["prob_good"]) == ("", "", "")
    for row in (rows[0], rows[3]):
        assert row["label"] in {"bad", "good"}
        assert float(row["prob_bad"]) + float(row["prob_good"]) == pytest.approx(1, abs=1e-5)


def test_all_empty(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("\n  \n")
    (tmp_path / "y.jsonl").write_text('{"text": null}\n')
    text, failed, notes = predict(trained, [tmp_path / "x.txt", tmp_path / "y.jsonl"])
    assert (failed, notes) == (3, [])
    assert all(row["error"] == "empty text" and not row["label"] for row in read(text))


def test_a_review_of_a_megabyte(trained: Path, tmp_path: Path) -> None:
    rows = [("film " * 210_000,), ("film " * 16,), ("a joy",)]
    path = write_csv(tmp_path / "x.csv", rows)
    assert path.stat().st_size > 1 << 20
    found = goods(predicted(trained, path))
    assert found[0] == pytest.approx(found[1], abs=1e-5), "all of it that the model sees"
    assert found[2] != found[1]


def test_half_a_character_is_no_crash(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "a bright \\ud83d film"}\n{"text": "a joy"}\n')
    first, second = predicted(trained, path)
    assert first["label"] or first["error"]
    assert second["label"]


def test_several_inputs_are_numbered_through_in_the_order_they_were_named(
    trained: Path, tmp_path: Path, command: Command
) -> None:
    table = write_csv(tmp_path / "x.csv", [("k", "a bright film"), ("l", "dull")], ("id", "text"))
    lines = tmp_path / "y.txt"
    lines.write_text("a joy to see\n\nslow")
    code, out, _ = command(trained, table, lines, "-", table, stdin=b"the film\n")
    assert code == 0
    rows = read(out)
    assert [row["id"] for row in rows] == [str(i) for i in range(8)]
    assert [bool(row["error"]) for row in rows] == [False] * 3 + [True] + [False] * 4
    first, second = predicted(trained, table), predicted(trained, lines)
    good = [row for row in rows if not row["error"]]
    expected = probabilities([*first, second[0], second[2]])
    assert goods(good[:4]) == expected
    assert goods(good[-2:]) == expected[:2]


# -------------------------------------------------------------------------------------------------- labels in the input
def test_the_accuracy_is_noted_where_labels_come_with_the_texts(
    trained: Path, tmp_path: Path, command: Command
) -> None:
    flipped = [(text, label if i % 3 else "bad") for i, (text, label) in enumerate(TABLE[:20])]
    table = [*flipped, ("without a label", "")]
    code, out, err = command(trained, write_csv(tmp_path / "x.csv", table, ("text", "label")))
    assert code == 0
    rows = read(out)
    right = sum(row["label"] == label for row, (_, label) in zip(rows, flipped, strict=False))
    assert 0 < right < 20, "the premise"
    assert f"accuracy {right / 20:.4f} on 20 rows with a label" in err
    assert "21 rows, 0 with an error" in err
    numbers = [(text, str(int(label == "good"))) for text, label in flipped]
    again = predict(trained, [write_csv(tmp_path / "y.csv", numbers, ("text", "label"))])
    assert again.notes == [f"accuracy {right / 20:.4f} on 20 rows with a label"]
    unlabelled = predict(trained, [write_csv(tmp_path / "z.csv", [row[:1] for row in table])])
    assert unlabelled.notes == []
    assert read(unlabelled.text) == rows, "labels change no prediction"


def test_a_label_that_training_had_not_is_noted_by_name(trained: Path, tmp_path: Path, command: Command) -> None:
    table = [("a bright film", "good"), ("a joy", "so-so"), ("slow", "odd"), ("dull", "so-so")]
    code, out, err = command(trained, write_csv(tmp_path / "x.csv", table, ("text", "label")))
    assert code == 0
    assert [bool(row["label"]) for row in read(out)] == [True] * 4
    assert "on 1 rows with a label" in err
    assert "3 rows have labels that training had not (odd, so-so); it knew bad, good" in err


NAMES = ("bad", "good", "mixed")


def compare(label: Sequence[int], expected: Sequence[str], classes: Sequence[str]) -> list[str]:
    """Return what is said of predicted classes beside those that the inputs came with."""
    objective = SingleLabel(DataSpec(classes=tuple(classes)))
    usable = [number >= 0 for number in label]
    prob = np.eye(len(classes), dtype=np.float32)[np.maximum(label, 0)]
    return objective.agreement({"prob": prob}, None, expected, usable)


def test_compare_counts_the_rows_with_a_label() -> None:
    assert compare([0, 1, 1], ["bad", "good", "bad"], NAMES) == ["accuracy 0.6667 on 3 rows with a label"]
    assert compare([0, 1, 1], ["", "good", ""], NAMES) == ["accuracy 1.0000 on 1 rows with a label"]
    assert compare([0, 1], ["", ""], NAMES) == []
    assert compare([0, 1], [], NAMES) == []


def test_compare_names_up_to_five_strange_labels_once() -> None:
    expected = ["bad", *"gfedcba", "a", ""]
    assert compare([0] * len(expected), expected, NAMES) == [
        "accuracy 1.0000 on 1 rows with a label",
        "8 rows have labels that training had not (a, b, c, d, e); it knew bad, good, mixed",
    ]
    assert len(compare([0, 0], ["a", "b"], NAMES)) == 1, "no accuracy where there is nothing to compare"


def test_numbers_are_positions_where_no_class_is_a_number() -> None:
    assert compare([2, 0], ["2", "bad"], NAMES) == ["accuracy 1.0000 on 2 rows with a label"]
    assert "1 rows have labels that training had not (3)" in compare([2, 0], ["3", "0"], NAMES)[1]


@pytest.mark.parametrize(
    "classes", [("1", "2", "3"), ("2", "many", "none"), ("-1", "-2", "many"), ("0.5", "1.5", "2.5")]
)
def test_numbers_are_names_where_a_class_is_a_number(classes: tuple[str, ...]) -> None:
    assert compare([0, 1, 2], classes, classes) == ["accuracy 1.0000 on 3 rows with a label"]
    assert compare([0, 1], ["0", classes[1]], classes) == [
        "accuracy 1.0000 on 1 rows with a label",
        f"1 rows have labels that training had not (0); it knew {', '.join(classes)}",
    ]


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from([*NAMES, "0", "1", "2"])), min_size=1))
def test_compare_is_the_share_of_equals(pairs: list[tuple[int, str]]) -> None:
    right = sum(name in (NAMES[label], str(label)) for label, name in pairs) / len(pairs)
    (note,) = compare([label for label, _ in pairs], [name for _, name in pairs], NAMES)
    assert note == f"accuracy {right:.4f} on {len(pairs)} rows with a label"


# ---------------------------------------------------------------------------------------------------------- the command
def test_what_a_pipe_says(trained: Path) -> None:
    done = warm.run([ROOT / "scripts" / "predict.py", trained, "-"], stdin="what a film\nd\u00fbll, dull\n")
    assert done.returncode == 0, done.stderr
    rows = read(done.stdout)
    assert [row["id"] for row in rows] == ["0", "1"]
    assert all(row["label"] in {"bad", "good"} for row in rows)
    assert "2 rows, 0 with an error" in done.stderr


def test_standard_input_is_read_a_text_a_line(trained: Path, tmp_path: Path, command: Command) -> None:
    texts = [text for text, _ in TABLE[:3]]
    out = tmp_path / "new" / "predictions.csv"
    code, shown, err = command(trained, "-", "--out", out, stdin="\r\n".join(texts).encode())
    assert (code, shown) == (0, "")
    assert f"3 rows, 0 with an error, in {out}" in err
    expected = predicted(trained, write_csv(tmp_path / "x.csv", [(text,) for text in texts]))
    assert goods(read(out.read_text())) == probabilities(expected)


def refused(command: Command, *arguments: str | Path, stdin: bytes = b"") -> str:
    """Return the complaint: one line, exit code 2, and nothing printed."""
    code, out, err = command(*arguments, stdin=stdin)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert "Traceback" not in err
    return err


def test_a_table_without_the_texts_column_is_refused_with_the_columns_there(
    trained: Path, tmp_path: Path, command: Command
) -> None:
    path = write_csv(tmp_path / "x.csv", [("a film", "bad")], ("body", "team"))
    assert f"{path}: no column text, from which the run read. There: body, team." in refused(command, trained, path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'text\nfine\n"a "good" film"\nfine\n', "line 3: broken quoting"),
        (b'text\nfine\n"never\nclosed\n', "line 3: broken quoting"),
        (b"text,label\nfine,bad\ngood, but long,bad\n", "line 3: 3 fields, but the header has 2"),
        (b"text\nfine\ncaf\xe9\n", "line 3: no UTF-8"),
    ],
    ids=["quote", "open quote", "comma", "latin-1"],
)
def test_a_broken_table_is_refused_by_its_line(
    trained: Path, tmp_path: Path, command: Command, content: bytes, said: str
) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    assert f"{path}, {said}" in refused(command, trained, path)


def test_inputs_that_are_no_texts_are_refused_by_name(
    trained: Path, tmp_path: Path, images: Path, command: Command
) -> None:
    image = images / "val" / "cat" / "0000.jpg"
    good = write_csv(tmp_path / "x.csv", [("a joy",)])
    assert f"{image}: no table of texts. Give .csv" in refused(command, trained, good, image)
    for name in ("gone.csv", "gone.txt", "gone.parquet", "gone.jsonl"):
        assert f"{tmp_path / name}: cannot be read" in refused(command, trained, tmp_path / name)
    assert f"{tmp_path}: no table of texts" in refused(command, trained, tmp_path)
    empty = write_csv(tmp_path / "empty.csv", [])
    assert f"{empty}: nothing to predict" in refused(command, trained, empty)
    assert "-: nothing to predict" in refused(command, trained, "-")
    assert "no run" in refused(command, tmp_path, good)


def test_a_run_without_its_tokenizer_is_refused(trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    shutil.rmtree(run / "tokenizer")
    with pytest.raises(InputError, match="tokenizer"):
        predict(run, [write_csv(tmp_path / "x.csv", [("a joy",)])])
