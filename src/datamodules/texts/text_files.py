"""Files of texts, read row by row: a file larger than the memory is no matter, and every error names its line."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import re
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from src.configs.errors import InputError, did_you_mean
from src.configs.labels import LABEL_SEPARATOR
from src.datamodules.ids import id_column

csv.field_size_limit(sys.maxsize)  # a text may be longer than csv's 128 KB
DELIMITERS = {".csv": ",;\t", ".tsv": "\t"}
LINES = (".jsonl", ".ndjson", ".json")
SUFFIXES = (*DELIMITERS, *LINES, ".parquet")
STDIN = Path("-")
QUOTED = re.compile(r'"[^"]*"')
WHOLE = re.compile(r"^(-?\d+)\.0+$")
"""A whole number, as pandas writes it in a column where a value is missing."""
TAG = re.compile(r"</?[a-zA-Z][^<>]*>")


class Document(NamedTuple):
    """One row of a table."""

    id: str
    """The row's value in the column of ids, or the 0-based row."""
    text: str
    label: str
    """'' where there is none."""


@dataclass(frozen=True)
class TextFile:
    """The documents of a file, read anew at each iteration.

    A `.csv`, `.tsv`, `.jsonl` or `.parquet` file has columns; any other file, and `-`, the standard input, has one text
    a line and no labels.
    """

    path: Path
    text_column: str = "text"
    label_column: str = ""
    """'' where no labels are wanted."""
    strip_html: bool = False
    """Put a blank in place of each HTML tag."""
    where: tuple[str, str] | None = None
    """Only the rows in which this column has this value."""
    label_names: tuple[str, ...] = ()
    """What the labels 0, 1, ... are to be called."""
    label_flag: str = "--label-column"
    """What names the label column on the command line, for errors."""

    @property
    def has_ids(self) -> bool:
        """Whether there is a column of ids; else rows are named by their numbers."""
        return suffix(self.path) in SUFFIXES and bool(id_column(column_names(self.path)))

    def __iter__(self) -> Iterator[Document]:
        """Yield the documents in order.

        Raises:
            InputError: no such file, a column that is not there, or a row that cannot be read; the line is named.
        """
        if suffix(self.path) not in SUFFIXES:
            for number, line in enumerate(_text_lines(self.path)):
                yield document(number, line.rstrip("\r\n"), strip_html=self.strip_html)
            return
        there = column_names(self.path)
        wanted = {"--text-column": self.text_column, self.label_flag: self.label_column}
        for flag, name in wanted.items():
            if name and name not in there:
                hint = did_you_mean(name, there)
                raise InputError(f"{self.path}: no column {name}.{hint} There: {', '.join(there)} ({flag}).")
        extra = id_column(there)
        names = [name for name in (extra, self.text_column, self.label_column, (self.where or ("",))[0]) if name]
        number = 0
        for row in rows(self.path, names):
            values = dict(zip(names, row, strict=True))
            if self.where is None or _word(values[self.where[0]]) == self.where[1]:
                found = document(
                    values[extra] if extra else number,
                    values[self.text_column],
                    values.get(self.label_column),
                    strip_html=self.strip_html,
                )
                yield found._replace(label=self.label_names[int(found.label)]) if self.label_names else found
                number += 1


def document(id: Any, text: Any, label: Any = None, *, strip_html: bool) -> Document:
    """Return the document of a row's values; None and NaN are missing values."""
    text = _whole("" if text is None or text != text else str(text))
    return Document(_word(id), (TAG.sub(" ", text) if strip_html else text).strip(), WHOLE.sub(r"\1", _word(label)))


def _whole(text: str) -> str:
    """Put a ? for half of a surrogate pair, which JSON may escape and nothing can encode."""
    return text.encode(errors="replace").decode()


def _word(value: Any) -> str:
    """Return a label or id as text; a whole number reads the same whether the file held 1, 1.0 or '1', and a list of
    labels as if they stood in one cell."""
    if isinstance(value, list):
        return LABEL_SEPARATOR.join(map(_word, value))
    if value is None or value != value:  # NaN, as pandas writes what is missing
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else _whole(str(value)).strip()


class Scan(NamedTuple):
    """What one pass over a file found, a row at each position."""

    ids: list[str] | None
    """None where they are the numbers of the rows."""
    labels: list[str]
    digests: np.ndarray
    """uint64 [rows]: hash of each text; 0 for an empty one."""


def scan(file: TextFile) -> Scan:
    """Read a file once; its texts are not kept."""
    ids: list[str] | None = [] if file.has_ids else None
    labels: list[str] = []
    digests = array("Q")
    names: dict[str, str] = {}  # one string for each label, not for each row
    for document in file:
        if ids is not None:
            ids.append(document.id)
        labels.append(names.setdefault(document.label, document.label))
        digests.append(_digest(document.text))
    return Scan(ids, labels, np.array(digests, np.uint64))


def _digest(text: str) -> int:
    """Return a hash of 64 bits that is 0 for the empty text only."""
    return int.from_bytes(hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest()) or 1 if text else 0


def suffix(path: Path) -> str:
    return path.suffix.lower()


def column_names(path: Path) -> list[str]:
    """Return the names of a table's columns."""
    if suffix(path) == ".parquet":
        with _parquet(path) as file:
            return list(file.schema_arrow.names)
    if suffix(path) in LINES:
        return list(dict.fromkeys(name for row in itertools.islice(_json_rows(path), 1000) for name in row))
    return next(_csv_rows(path), (1, []))[1]


def rows(path: Path, names: Sequence[str]) -> Iterator[list[Any]]:
    """Yield the values of the named columns, row by row."""
    if suffix(path) == ".parquet":
        with _parquet(path) as file:
            batches = file.iter_batches(batch_size=1000, columns=list(names))
            while (batch := _read(path, lambda: next(batches, None))) is not None:
                yield from map(list, zip(*(batch.column(name).to_pylist() for name in names), strict=True))
    elif suffix(path) in LINES:
        for row in _json_rows(path):
            yield [row.get(name) for name in names]
    else:
        table = _csv_rows(path)
        _, header = next(table, (1, []))
        where = [header.index(name) for name in names]
        for line, row in table:
            if len(row) != len(header):
                raise InputError(
                    f"{path}, line {line}: {len(row)} fields, but the header has {len(header)}. A text with commas or "
                    "line breaks needs double quotes around it."
                )
            yield [row[i] for i in where]


def _lines(file: IO[bytes], path: Path) -> Iterator[str]:
    """Decode UTF-8 line by line; a byte-order mark is passed over."""
    for number, line in enumerate(file, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}, line {number}: no UTF-8 (byte {error.start} is {error.object[error.start]:#04x}). Save "
                "the file as UTF-8."
            ) from None


def _text_lines(path: Path) -> Iterator[str]:
    if path == STDIN:
        yield from _lines(sys.stdin.buffer, path)
    else:
        with _open(path) as file:
            yield from _lines(file, path)


def _open(path: Path) -> IO[bytes]:
    try:
        return open(path, "rb")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (first line, fields) of each row, the header's first; the delimiter is the header's most frequent."""
    with _open(path) as file:
        header = QUOTED.sub("", file.readline().decode("utf-8", errors="replace"))
        file.seek(0)
        delimiter = max(DELIMITERS[suffix(path)], key=header.count)
        reader = csv.reader(_lines(file, path), delimiter=delimiter, strict=True)
        while True:
            line = reader.line_num + 1
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise InputError(
                    f"{path}, line {line}: broken quoting ({error}). A quote within a quoted text is written twice."
                ) from None
            if row:
                yield line, row


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    with _open(path) as file:
        for number, line in enumerate(_lines(file, path), 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise InputError(f"{path}, line {number}: no JSON ({error}). One object a line.") from None
                if not isinstance(row, dict):
                    raise InputError(f"{path}, line {number}: {type(row).__name__}, but one object a line is expected.")
                yield row


def _parquet(path: Path) -> Any:
    from pyarrow import parquet

    # By default a whole row group would be in memory.
    return _read(path, lambda: parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20))


def _read(path: Path, call: Callable[[], Any]) -> Any:
    import pyarrow

    try:
        return call()
    except (OSError, ValueError, pyarrow.ArrowException) as error:  # a ValueError: of a name that is not UTF-8
        raise InputError(f"{path}: cannot be read as Parquet ({error}).") from None
