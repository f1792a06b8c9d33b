"""Files of texts: every format reads the same, every error names its line, and no file has to fit into memory."""

from __future__ import annotations

import csv
import io
import json
import sys
import tempfile
import tracemalloc
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from src.datamodules.sources import split_files
from src.datamodules.texts.text_files import STDIN, Document, TextFile, column_names, rows, scan
from src.experiment import Csv, InputError

DELIMITERS = {"comma.csv": ",", "semicolon.csv": ";", "tab.csv": "\t", "tab.tsv": "\t"}
NAMES = (*DELIMITERS, "lines.jsonl", "lines.ndjson", "lines.json", "columns.parquet")
ANYTHING = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
AWKWARD = st.text(st.sampled_from("a,;\t\"'\r\n \\é\u2028\x85\x00\ufeff"), max_size=12)
"""What separates, quotes or ends lines, here or in other programs."""


def write(folder: Path, name: str, columns: Sequence[str], table: Iterable[Sequence[Any]]) -> Path:
    """Write a table in the format that its name stands for, as the format's own library does."""
    path, table = folder / name, list(table)
    if path.suffix == ".parquet":
        parquet.write_table(
            pyarrow.table({column: [row[i] for row in table] for i, column in enumerate(columns)}), path
        )
    elif name in DELIMITERS:
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=DELIMITERS[name]).writerows([columns, *table])
    else:
        lines = (json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) + "\n" for row in table)
        path.write_text("".join(lines), encoding="utf-8")
    return path


def raw(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def labels(path: Path) -> list[str]:
    return [document.label for document in TextFile(path, label_column="label")]


def texts(path: Path) -> list[str]:
    return [document.text for document in TextFile(path)]


# ------------------------------------------------------------------------------------------------------ what is read
@settings(deadline=None)
@given(st.sampled_from(NAMES), st.lists(st.tuples(ANYTHING | AWKWARD, ANYTHING | AWKWARD), min_size=1, max_size=8))
def test_any_texts_are_read_back_from_any_format(name: str, table: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), name, ("text", "label"), table)
        found = list(TextFile(path, label_column="label"))
    assert found == [Document(str(row), text.strip(), label.strip()) for row, (text, label) in enumerate(table)]


def test_a_text_of_several_lines_is_no_header_of_a_csv_of_one_column(tmp_path: Path) -> None:
    table = ["film", "one, two\nthree, four\nfive, six", 'a "quote"\n;\n;', "|\n|", "plot"]
    for name in DELIMITERS:
        assert texts(write(tmp_path, name, ("text",), [[text] for text in table])) == table


@pytest.mark.parametrize("name", NAMES)
def test_columns_are_found_by_name_wherever_they_stand(name: str, tmp_path: Path) -> None:
    table = [("1", "pos", "x", "good"), ("0", "neg", "y", "bad")]
    path = write(tmp_path, name, ("stars", "sentiment", "id", "review"), table)
    assert column_names(path, Csv()) == ["stars", "sentiment", "id", "review"]
    assert list(TextFile(path, "review", "sentiment")) == [("x", "good", "pos"), ("y", "bad", "neg")]
    assert list(TextFile(path, "review")) == [("x", "good", ""), ("y", "bad", "")], "no labels are wanted"
    assert list(rows(path, ["review", "stars"], Csv(), [])) == [["good", "1"], ["bad", "0"]]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_can_be_read_again(name: str, tmp_path: Path) -> None:
    file = TextFile(write(tmp_path, name, ("text",), [("a",), ("b",)]))
    assert list(file) == list(file) == [("0", "a", ""), ("1", "b", "")]


@pytest.mark.parametrize("name", ["lines.jsonl", "columns.parquet"])
@pytest.mark.parametrize(
    ("values", "read"),
    [
        ([1, 0, -1], ["1", "0", "-1"]),
        ([1.0, 0.0, 2.5], ["1.0", "0.0", "2.5"]),
        ([" pos ", "neg"], ["pos", "neg"]),
        (["1", None], ["1", ""]),
        ([1.0, None], ["1.0", ""]),
        ([1.0, float("nan")], ["1.0", ""]),
    ],
    ids=["ints", "floats", "words", "a word is missing", "a float is missing", "NaN"],
)
def test_a_label_reads_the_same_whatever_type_it_has(
    name: str, values: list[Any], read: list[str], tmp_path: Path
) -> None:
    path = write(tmp_path, name, ("text", "label", "id"), [("a", value, value) for value in values])
    assert labels(path) == read
    assert scan(TextFile(path), []).ids == read, "ids as well"


@pytest.mark.parametrize(("name", "read"), [("lines.jsonl", ["true", "false"]), ("columns.parquet", ["True", "False"])])
def test_truth_values_are_spelled_as_json_or_python_does(name: str, read: list[str], tmp_path: Path) -> None:
    path = write(tmp_path, name, ("text", "label", "id"), [("a", value, value) for value in (True, False)])
    assert labels(path) == read
    assert scan(TextFile(path), []).ids == read


def test_labels_and_ids_of_a_csv_are_as_written(tmp_path: Path) -> None:
    values = ["1.0", "0.0", "-2.00", "2.5", "1.0.0", "v1.0"]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(["text,label,id", *(f"a,{value},{value}" for value in values)]))
    assert labels(path) == values
    assert scan(TextFile(path), []).ids == values


@pytest.mark.parametrize("name", ["lines.jsonl", "columns.parquet"])
def test_a_missing_text_is_empty_and_a_number_is_a_text(name: str, tmp_path: Path) -> None:
    assert texts(write(tmp_path, name, ("text",), [(None,), (5,)])) == ["", "5"]
    assert texts(write(tmp_path, name, ("text",), [(float("nan"),), (2.5,)])) == ["", "2.5"]


def test_json_rows_need_not_have_all_keys(tmp_path: Path) -> None:
    path = raw(tmp_path / "x.jsonl", '{"text": "a"}\n\n{"label": 2}\n{"text": "c", "more": 0}\n')
    assert column_names(path, Csv()) == ["text", "label", "more"]
    assert list(TextFile(path, label_column="label")) == [("0", "a", ""), ("1", "", "2"), ("2", "c", "")]


@pytest.mark.parametrize("name", [*NAMES, "text.txt"])
def test_a_suffix_may_be_in_capitals(name: str, tmp_path: Path) -> None:
    path = raw(tmp_path / name, "a\n") if name == "text.txt" else write(tmp_path, name, ("text",), [("a",)])
    shouted = path.rename(path.with_suffix(path.suffix.upper()))
    assert texts(shouted) == ["a"]
    if name != "text.txt":
        assert split_files(shouted, []) == {"train": shouted}


@pytest.mark.parametrize("name", ["comma.csv", "semicolon.csv", "tab.tsv", "lines.jsonl", "text.txt"])
def test_a_byte_order_mark_is_passed_over(name: str, tmp_path: Path) -> None:
    plain = raw(tmp_path / name, "hello\n") if name == "text.txt" else write(tmp_path, name, ("text",), [("hello",)])
    assert texts(raw(tmp_path / f"bom-{name}", b"\xef\xbb\xbf" + plain.read_bytes())) == texts(plain) == ["hello"]


@pytest.mark.parametrize("name", NAMES)
def test_a_text_of_a_megabyte_is_whole(name: str, tmp_path: Path) -> None:
    long = 'word "quoted", and\nso on; ' * 40_000
    assert len(long) > 1_000_000
    assert texts(write(tmp_path, name, ("text", "label"), [(long, "a"), ("b", "b")])) == [long.strip(), "b"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_blank_lines_of_a_csv_are_no_rows(end: str, tmp_path: Path) -> None:
    path = raw(tmp_path / "x.csv", end.join(["text,label", "a,x", "", "b,y", "", ""]))
    assert list(TextFile(path, label_column="label")) == [("0", "a", "x"), ("1", "b", "y")]


def test_other_files_and_the_standard_input_have_a_text_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = 'text,label\r\n"one\r\n\r\n  two\u2028still two  \nthree'.encode()
    expected = ["text,label", '"one', "", "two\u2028still two", "three"]
    documents = [(str(number), text, "") for number, text in enumerate(expected)]
    assert list(TextFile(raw(tmp_path / "x.txt", content), label_column="label")) == documents
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="ascii"))
    assert list(TextFile(STDIN)) == documents


def test_half_a_surrogate_pair_is_replaced_and_a_whole_one_kept(tmp_path: Path) -> None:
    path = raw(tmp_path / "x.jsonl", r'{"text": "a\ud83d", "id": "\uDE00"}' + "\n" + r'{"text": "\ud83d\ude00"}')
    assert list(TextFile(path)) == [("?", "a?", ""), ("", "\U0001f600", "")]


def test_delimiters_in_quoted_names_do_not_count(tmp_path: Path) -> None:
    path = raw(tmp_path / "x.csv", '"a, b, c";text\n1;x\n')
    assert column_names(path, Csv()) == ["a, b, c", "text"]


def test_html_tags_become_blanks_and_other_angles_stay(tmp_path: Path) -> None:
    text = 'Great!<br /><br />5 < 6 and <a href="x>y">b</a> i <3 u, a<-b'
    path = write(tmp_path, "lines.jsonl", ("text",), [(text,), ("<p>",)])
    assert texts(path) == [text, "<p>"]
    stripped = [document.text for document in TextFile(path, strip_html=True)]
    assert stripped == ['Great!  5 < 6 and  y">b  i <3 u, a<-b', ""]
    lines = raw(tmp_path / "x.txt", "a<br>b\n")
    assert [document.text for document in TextFile(lines, strip_html=True)] == ["a b"]


@pytest.mark.parametrize("name", ["comma.csv", "lines.jsonl", "columns.parquet"])
def test_where_keeps_some_rows_and_label_names_replace_numbers(name: str, tmp_path: Path) -> None:
    table = [("a", 0, "x"), ("b", 1, "y"), ("c", 1, "x"), ("d", 0, "x")]
    path = write(tmp_path, name, ("text", "label", "source"), table)
    file = TextFile(path, "text", "label", where=("source", "x"), label_names=("neg", "pos"))
    assert list(file) == [("0", "a", "neg"), ("1", "c", "pos"), ("2", "d", "neg")]
    assert [document.text for document in TextFile(path, "text", "label", where=("label", "1"))] == ["b", "c"]


@pytest.mark.parametrize("name", ["comma.csv", "columns.parquet"])
def test_a_table_without_rows_has_no_documents(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, name, ("text", "label"), [])
    assert list(TextFile(path, label_column="label")) == []
    assert scan(TextFile(path), []).digests.shape == (0,)


# ------------------------------------------------------------------------------------------------------------ bad input
def refused(file: TextFile) -> str:
    with pytest.raises(InputError) as error:
        list(file)
    message = str(error.value)
    assert message.startswith(str(file.path))
    return message.removeprefix(str(file.path))


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_column_is_named_with_those_there_and_the_flag(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, name, ("texts", "stars"), [("a", "1")])
    message = refused(TextFile(path, "text", "stars"))
    assert message == ": no column text. Did you mean texts? There: texts, stars (--text-column)."
    message = refused(TextFile(path, "texts", "label"))
    assert message == ": no column label. There: texts, stars (--label-column)."


@pytest.mark.parametrize("name", [*NAMES, "text.txt"])
def test_a_missing_file_or_a_folder_is_named(name: str, tmp_path: Path) -> None:
    assert "cannot be read" in refused(TextFile(tmp_path / name))
    (tmp_path / name).mkdir()
    assert "cannot be read" in refused(TextFile(tmp_path / name))


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.jsonl", "x.txt"])
@pytest.mark.parametrize("line", [2, 3])
def test_text_that_is_no_utf8_is_named_with_its_line_and_byte(name: str, line: int, tmp_path: Path) -> None:
    good = [b'{"text": "good"}'] * 4 if name == "x.jsonl" else [b"text", b"a", b"b", b"c"]
    good[line - 1] = b"caf\xe9"
    path = raw(tmp_path / name, b"\n".join(good))
    assert f", line {line}: no UTF-8 (byte 3 is 0xe9). Save the file as UTF-8." in refused(TextFile(path))


def test_the_byte_is_named_after_a_byte_order_mark_too(tmp_path: Path) -> None:
    path = raw(tmp_path / "x.csv", b"\xef\xbb\xbftext,caf\xe9\na,b\n")
    assert ", line 1: no UTF-8 (byte 8 is 0xe9)" in refused(TextFile(path))


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.txt"])
def test_a_file_in_utf16_is_read_or_refused_at_its_first_line(name: str, tmp_path: Path) -> None:
    path = raw(tmp_path / name, "text,label\na,b\n".encode("utf-16"))
    if name == "x.csv":  # Excel's "Unicode text" with commas: the byte-order mark tells
        assert list(TextFile(path, label_column="label")) == [("0", "a", "b")]
        return
    assert ", line 1: no UTF-8 (byte 0 is 0xff)" in refused(TextFile(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('text,label\na,x\n"never\nclosed,y\nb,x\n', ", line 3: broken quoting"),
        ('text,label\n"fine\nhere",x\n\n"a "word" here",y\n', ", line 5: broken quoting"),
        ('text,label\na,x\n"a"b,y\nc,"d\n', ", line 3: broken quoting"),
        ("text,label\na,x\nHello, you,y\nb,x\n", ", line 3: 3 fields, but the header has 2."),
        ('text,label\n"two\nlines",x\n\nalone\n', ", line 5: 1 fields, but the header has 2."),
        ("text;label\na;x\nb;y;\n", ", line 3: 3 fields, but the header has 2."),
    ],
    ids=["never closed", "quote within", "text after a quote", "a comma too many", "too few", "semicolon"],
)
def test_a_broken_csv_row_is_named_by_the_line_where_it_begins(content: str, message: str, tmp_path: Path) -> None:
    found = refused(TextFile(raw(tmp_path / "x.csv", content), label_column="label"))
    assert found.startswith(message)
    assert "quote" in found, "the way out"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a"}\n\n{"text": "b"\n', ", line 3: no JSON ("),
        ('{"text": "a"}\n{"text": "b"} {"text": "c"}\n', ", line 2: no JSON ("),
        ('{"text": "a"}\n["b"]\n', ", line 2: list, but one object a line is expected."),
        ('[{"text": "a"}, {"text": "b"}]', ", line 1: list, but one object a line is expected."),
        ('[\n {"text": "a"}\n]', ", line 1: no JSON ("),
        ('{"text": "a"}\n' + "[" * 200_000, ", line 2: no JSON ("),
        ('{"text": "a"}\nnull\n', ", line 2: NoneType, but one object a line is expected."),
    ],
)
def test_a_broken_json_line_is_named(content: str, message: str, tmp_path: Path) -> None:
    found = refused(TextFile(raw(tmp_path / "x.jsonl", content)))
    assert found.startswith(message)
    assert "object a line" in found


@pytest.mark.parametrize("damage", ["empty", "no Parquet", "cut short", "within"])
def test_a_damaged_parquet_file_is_named(damage: str, tmp_path: Path) -> None:
    path = write(tmp_path, "columns.parquet", ("text",), [("hello",)] * 100)
    content = path.read_bytes()
    within = content[:4] + b"\xff" * 50 + content[54:]
    cut = content[: len(content) // 2]
    raw(path, {"empty": b"", "no Parquet": b"text,label\n" * 9, "cut short": cut, "within": within}[damage])
    assert refused(TextFile(path)).startswith(": cannot be read as Parquet (")


def test_what_was_read_before_an_error_was_yielded(tmp_path: Path) -> None:
    documents = iter(TextFile(raw(tmp_path / "x.csv", "text\na\nb,c\n")))
    assert next(documents).text == "a", "row by row, not the whole file at once"
    with pytest.raises(InputError, match="line 3"):
        next(documents)


# ----------------------------------------------------------------------------------------------------------------- scan
@settings(deadline=None)
@given(st.lists(st.sampled_from(["", " ", "\n", "a", "a ", "b", "ä", "\x00"]) | ANYTHING, min_size=1, max_size=10))
def test_digests_are_equal_for_equal_texts_only_and_0_for_empty_ones(found: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        digests = scan(TextFile(write(Path(folder), "lines.jsonl", ("text",), [(text,) for text in found])), []).digests
    assert digests.dtype == np.uint64
    stripped = [text.strip() for text in found]
    assert (digests == 0).tolist() == [text == "" for text in stripped]
    for digest, text in zip(digests, stripped, strict=True):
        assert (digests == digest).tolist() == [other == text for other in stripped]


def test_scan_has_a_position_for_every_row_usable_or_not(tmp_path: Path) -> None:
    table = [("x", "a", "pos"), ("y", "", "neg"), ("z", "a", "")]
    found = scan(TextFile(write(tmp_path, "comma.csv", ("id", "text", "label"), table), label_column="label"), [])
    assert found.ids == ["x", "y", "z"]
    assert found.labels == ["pos", "neg", ""]
    assert found.digests[0] == found.digests[2] != 0 == found.digests[1]


def test_a_digest_is_the_same_in_every_format(tmp_path: Path) -> None:
    table = [("Grüße, “you”\nand me",), ("b",)]
    found = [scan(TextFile(write(tmp_path, name, ("text",), table)), []).digests.tolist() for name in NAMES]
    assert all(digests == found[0] for digests in found)


# ---------------------------------------------------------------------------------------------------------- split files
def test_a_single_file_is_train(tmp_path: Path) -> None:
    path = raw(tmp_path / "reviews.csv", "text,label\n")
    assert split_files(path, []) == {"train": path}


def test_a_folders_files_are_told_by_name(tmp_path: Path) -> None:
    for name in ("Training.csv", "valid.jsonl", "TEST.parquet", "notes.csv", "train.txt", "validation.md", "README"):
        raw(tmp_path / name, "")
    for name in ("desktop.ini", ".train.csv.swp"):
        raw(tmp_path / name, "")
    notes: list[str] = []
    found = split_files(tmp_path, notes)
    assert {split: path.name for split, path in found.items()} == {
        "train": "Training.csv",
        "val": "valid.jsonl",
        "test": "TEST.parquet",
    }
    assert notes == [
        f"not used in {tmp_path}: notes.csv (1: the name says no split of these)",
        f"not used in {tmp_path}: README, train.txt, validation.md (3: no table)",
        "passed over: 1 file that systems leave (desktop.ini), 1 hidden file (.train.csv.swp)",
    ]


HUB = "-00000-of-00001"


@pytest.mark.parametrize(
    "files",
    [
        {"train": "train.tsv", "val": "dev.tsv"},
        {"train": "Training.csv", "test": "Testing.csv"},
        {"train": "data_train.csv", "test": "data_test.csv"},
        {"train": "trainSet.csv", "val": "validation_set.csv", "test": "testset.csv"},
        {"train": "reviews.train.csv", "val": "reviews.dev.csv"},
        {"train": f"train{HUB}.parquet", "val": f"validation{HUB}.parquet", "test": f"test{HUB}.parquet"},
        {"train": f"train{HUB}-0a1b2c3d4e5f6789.parquet", "test": f"test{HUB}-f6e5d4c3b2a19078.parquet"},
        {"train": "tr.csv", "val": "va.csv", "test": "te.csv"},
    ],
    ids=lambda files: files["train"],
)
def test_files_of_every_habit(files: dict[str, str], tmp_path: Path) -> None:
    for name in files.values():
        raw(tmp_path / name, "")
    notes: list[str] = []
    assert {split: path.name for split, path in split_files(tmp_path, notes).items()} == files
    assert notes == []


def test_a_split_in_several_files_is_refused_with_the_way_out(tmp_path: Path) -> None:
    for part in range(2):
        raw(tmp_path / f"train-0000{part}-of-00002.parquet", "")
    with pytest.raises(InputError, match=r"are both train\. Join the parts into one file, or move one of them"):
        split_files(tmp_path, [])


def test_two_files_for_a_split_are_refused(tmp_path: Path) -> None:
    for name in ("train.csv", "val.csv", "validation.tsv"):
        raw(tmp_path / name, "")
    with pytest.raises(InputError, match=r"--data-dir .*: val.csv and validation.tsv are both val\."):
        split_files(tmp_path, [])


def test_a_folder_without_a_train_file_or_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    for name in ("val.csv", "test.csv"):
        path = raw(tmp_path / name, "")
    with pytest.raises(
        InputError, match=r"--data-dir .*: no train file\. Expected train\.csv.*There: test\.csv, val\."
    ):
        split_files(tmp_path, [])
    path = raw(tmp_path / "train.docx", "")
    with pytest.raises(InputError, match=r"train\.docx: not a table\. Expected one of \.csv, \.tsv, \.parquet"):
        split_files(path, [])


# --------------------------------------------------------------------------------------------------------------- memory
@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.txt"])
def test_scanning_takes_far_less_memory_than_the_file_is_large(name: str, tmp_path: Path) -> None:
    path, rows = tmp_path / name, 2000
    text = "a film, to be sure; " * 1500  # 30 kB
    line = {"x.csv": f'"{text}",neg\n', "x.jsonl": f'{{"text": "{text}", "label": "neg"}}\n', "x.txt": f"{text}\n"}[
        name
    ]
    with open(path, "w", encoding="utf-8") as file:
        file.write("text,label\n" if name == "x.csv" else "")
        for _ in range(rows):
            file.write(line)
    assert path.stat().st_size > 60_000_000
    tracemalloc.start()
    try:
        found = scan(TextFile(path, label_column="label"), [])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found.labels) == rows
    assert peak < 3_000_000


def test_a_row_group_of_parquet_is_not_in_memory_as_a_whole(tmp_path: Path) -> None:
    letters = np.random.default_rng(0).integers(97, 123, (10_000, 2000)).astype(np.uint8)
    path = write(tmp_path, "columns.parquet", ("text",), [(row.tobytes().decode(),) for row in letters])
    found = iter(TextFile(path))
    before = pyarrow.total_allocated_bytes()
    next(found)
    assert path.stat().st_size > 20_000_000
    assert pyarrow.total_allocated_bytes() - before < 10_000_000
