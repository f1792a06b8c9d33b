"""Files of texts, read row by row: a file larger than the memory is no matter, and every error names its line."""

from __future__ import annotations

import hashlib
import re
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from src.configs.errors import InputError, did_you_mean
from src.configs.labels import LABEL_SEPARATOR
from src.configs.table import Csv
from src.configs.words import word
from src.datamodules.headers import SUFFIXES, column_names
from src.datamodules.ids import id_column
from src.datamodules.json_lines import LINES, json_rows
from src.datamodules.row_files import clean, csv_rows, decoded_lines, find_layout, nfc, open_bytes

STDIN = Path("-")
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
    csv: Csv = field(default_factory=Csv)
    """How cells are written, where that is not to be found out."""

    @property
    def has_ids(self) -> bool:
        """Whether there is a column of ids; else rows are named by their numbers."""
        return suffix(self.path) in SUFFIXES and bool(id_column(column_names(self.path, self.csv)))

    def __iter__(self) -> Iterator[Document]:
        return self.documents([])

    def documents(self, notes: list[str]) -> Iterator[Document]:
        """Yield the documents in order; what the user should know of the file is added to `notes`.

        Raises:
            InputError: no such file, a column that is not there, or a row that cannot be read; the line is named.
        """
        if suffix(self.path) not in SUFFIXES:
            for number, line in enumerate(_text_lines(self.path, self.csv.encoding)):
                yield document(number, line.rstrip("\r\n"), strip_html=self.strip_html)
            return
        there = column_names(self.path, self.csv)
        wanted = {"--text-column": self.text_column, self.label_flag: self.label_column}
        for flag, name in wanted.items():
            if name and name not in there:
                hint = did_you_mean(name, there)
                raise InputError(f"{self.path}: no column {name}.{hint} There: {', '.join(there)} ({flag}).")
        extra = id_column(there)
        names = [name for name in (extra, self.text_column, self.label_column, (self.where or ("",))[0]) if name]
        number, missing = 0, {*self.csv.missing}
        for row in rows(self.path, names, self.csv, notes):
            values = dict(zip(names, ["" if missing and _word(cell) in missing else cell for cell in row], strict=True))
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
    return Document(_word(id), (TAG.sub(" ", text) if strip_html else text).strip(), _word(label))


def _whole(text: str) -> str:
    """Put a ? for half of a surrogate pair, which JSON may escape and nothing can encode."""
    return text.encode(errors="replace").decode()


def _word(value: Any) -> str:
    """Return a label or id as text; a list of labels as if they stood in one cell."""
    if isinstance(value, list):
        return LABEL_SEPARATOR.join(map(_word, value))
    return nfc(_whole(word(value)))


class Scan(NamedTuple):
    """What one pass over a file found, a row at each position."""

    ids: list[str] | None
    """None where they are the numbers of the rows."""
    labels: list[str]
    digests: np.ndarray
    """uint64 [rows]: hash of each text; 0 for an empty one."""


def scan(file: TextFile, notes: list[str]) -> Scan:
    """Read a file once; its texts are not kept, and what the user should know of it is added to `notes`."""
    ids: list[str] | None = [] if file.has_ids else None
    labels: list[str] = []
    digests = array("Q")
    names: dict[str, str] = {}  # one string for each label, not for each row
    for document in file.documents(notes):
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


def rows(path: Path, names: Sequence[str], how: Csv, notes: list[str]) -> Iterator[list[Any]]:
    """Yield the values of the named columns, row by row."""
    if suffix(path) == ".parquet":
        with _parquet(path) as file:
            raw = {clean(name): name for name in file.schema_arrow.names}
            columns = [raw[name] for name in names]
            batches = file.iter_batches(batch_size=1000, columns=columns)
            while (batch := _read(path, lambda: next(batches, None))) is not None:
                yield from map(list, zip(*(batch.column(name).to_pylist() for name in columns), strict=True))
        return
    with open_bytes(path) as file:
        if suffix(path) in LINES:
            for row in json_rows(file, path):
                yield [row.get(name) for name in names]
            return
        layout = find_layout(file, path, how, notes)
        where = [layout.names.index(name) for name in names]
        for _, row in csv_rows(file, path, how, notes, layout):
            yield [row[i] for i in where]


def _text_lines(path: Path, encoding: str) -> Iterator[str]:
    if path == STDIN:
        yield from decoded_lines(sys.stdin.buffer, path, encoding)
    else:
        with open_bytes(path) as file:
            yield from decoded_lines(file, path, encoding)


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
