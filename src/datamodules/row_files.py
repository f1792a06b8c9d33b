"""CSV files, read row by row. Every cell is text, and every error names its line."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from src.configs.errors import InputError
from src.configs.labels import is_number
from src.configs.table import Csv
from src.configs.words import MISSING

DELIMITERS = {".csv": ",;\t|", ".tsv": "\t"}
LONGEST = 1 << 27
"""Characters that a cell may have."""
LOOKED_AT = 50
"""Lines in which the header is looked for."""
FEW_ROWS = 5
"""Rows below which a word above numbers may well be chance."""
SWALLOWED = 3
"""Lines of a quoted field from which on rows within it are taken for swallowed ones."""
MOSTLY = 0.9
"""Share of the lines within such a field that look like rows."""
FIRST_ROWS, MOST_VALUES = 200, 10
"""Rows that such lines are compared with, and distinct values up to which a column is taken for one of labels."""
NUMERIC = re.compile(r"^\s*[-+]?\d[\d.,' ]*([eE][-+]?\d+)?\s*%?\s*$")
"""A number, however it is written."""
QUOTED = re.compile(r'"[^"]*"')
SEPARATOR = re.compile(r"^sep=(.)\s*$", re.IGNORECASE)
"""First line that Excel writes and reads."""
WIDE = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
"""Byte-order mark -> encoding."""

csv.field_size_limit(LONGEST)


class Layout(NamedTuple):
    """Where the cells of a CSV file are."""

    names: tuple[str, ...]
    delimiter: str
    lines: int
    """Lines up to the header and with it."""
    encoding: str


def decoded_lines(file: IO[bytes], path: Path, encoding: str = "utf-8") -> Iterator[str]:
    """Yield the lines of a file as text; a byte-order mark is passed over.

    Raises:
        InputError: the file is in another encoding; the line is named.
    """
    if encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32")):  # a line break is no single byte there
        text = io.TextIOWrapper(file, encoding, newline="")
        try:
            for line in text:  # `yield from` would close the file along with the generator
                yield line
        except UnicodeError as error:
            raise InputError(f"{path}: no {encoding.upper()} ({error}). Another --csv.encoding?") from None
        finally:
            if not file.closed:
                text.detach()  # else it would close the file
        return
    for number, line in enumerate(file, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 and encoding == "utf-8" else encoding)
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}, line {number}: no {encoding.upper()} (byte {error.start} is "
                f"{error.object[error.start]:#04x}). Save the file as UTF-8. Or name its encoding: --csv.encoding "
                "cp1252 for one from Excel on Windows."
            ) from None


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return open(path, "rb")
    except OSError as error:
        why = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise InputError(f"{path}: cannot be read: {why}.") from None


def clean(name: str) -> str:
    """Return the name of a column without blanks around it, in the form of `nfc`."""
    return nfc(name.strip())


def nfc(text: str) -> str:
    """Return text in the form in which letters with accents are one character."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


# ----------------------------------------------------------------------------------------------------------------- CSV
def find_layout(file: IO[bytes], path: Path, how: Csv, notes: list[str]) -> Layout:
    """Return where the cells of a CSV file are; lines before the header are noted.

    The delimiter is the one that stands most often in the header. The header is the first line that is not blank; if
    it has a single field and the lines after it have several, the first line that has as many as the next.

    Raises:
        InputError: no line, or two columns of one name.
    """
    file.seek(0)
    encoding = WIDE.get(file.read(2), how.encoding) if how.encoding == "utf-8" else how.encoding
    file.seek(0)
    lines = [*itertools.islice(decoded_lines(file, path, encoding), max(LOOKED_AT, how.header))]
    first = how.header - 1 if how.header else next((i for i, line in enumerate(lines) if line.strip()), len(lines))
    if first >= len(lines):
        if how.header:
            raise InputError(f"--csv.header {how.header}: {path} has {len(lines)} lines.")
        raise InputError(f"{path}: the file is empty.")
    allowed = DELIMITERS.get(path.suffix.lower(), DELIMITERS[".csv"])
    if (said := SEPARATOR.match(lines[first])) and said[1].isascii() and said[1].isprintable():
        allowed, first = said[1], first + 1
        if first >= len(lines):
            raise InputError(f"{path}: no line with column names.")
    if not how.header:
        below = _below_preamble(lines, first, allowed, how)
        if below != first:
            shown = ", ".join(repr(line.strip()) for line in lines[first:below] if line.strip())[:100]
            notes.append(
                f"{path}: the header is line {below + 1}; passed over are {shown} (--csv.header {first + 1} reads them)"
            )
        first = below
    if first >= len(lines):
        raise InputError(f"{path}: no line with column names.")
    delimiter = _delimiter(lines[first], allowed, how)
    reader = csv.reader(lines[first:], **_dialect(delimiter, how))
    header = _next(reader, path, first + 1)
    names = tuple(clean(name) or f"Unnamed: {i}" for i, name in enumerate(header))
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"{path}: two columns are called {repeated[0]}. Rename one.")
    layout = Layout(names, delimiter, first + reader.line_num, encoding)
    if not how.header:
        _refuse_second_header(reader, layout, path)
    return layout


def _delimiter(line: str, allowed: str, how: Csv) -> str:
    bare = line if how.quoting == "none" else QUOTED.sub("", line)
    return max(allowed, key=bare.count)


def _below_preamble(lines: Sequence[str], first: int, allowed: str, how: Csv) -> int:
    """Return the line of the header: `first`, or a later one if `first` is a title and not names of columns."""

    def records() -> Iterator[tuple[int, int]]:
        """Return the line of each record, and its fields; a quoted field may go on over several lines."""
        at = first
        while at < len(lines):
            delimiter = _delimiter(lines[at], allowed, how)
            reader = csv.reader(itertools.islice(lines, at, None), **_dialect(delimiter, how, strict=False))
            try:
                width = len(next(reader))
            except csv.Error:  # a carriage return within the line: reading it says so
                width = 1
            if lines[at].strip():
                yield at, width
            at += reader.line_num

    (_, width), *others = records()
    if width != 1:
        return first
    for (line, width), (_, below) in itertools.pairwise(others):
        if width > 1:
            return line if width == below else first
    return first


def _refuse_second_header(rows: Iterator[list[str]], layout: Layout, path: Path) -> None:
    """Raise an InputError where the first row has words in two columns or more that have numbers in all other rows."""
    with contextlib.suppress(csv.Error):  # of a quoted field that goes on below the lines at hand
        there = itertools.islice(rows, 2 * FEW_ROWS)
        first, *others = [row for row in there if len(row) == len(layout.names)] or [[]]
        if len(others) < FEW_ROWS:
            return
        words = [
            cell.strip()
            for cell, *below in zip(first, *others, strict=True)
            if cell.strip().lower() not in MISSING and not NUMERIC.match(cell) and all(map(NUMERIC.match, below))
        ]
        if len(words) > 1:
            raise InputError(
                f"{path}, line {layout.lines + 1}: {', '.join(map(repr, words[:3]))} stand above numbers, as in a "
                f"second header. Delete one of the two lines, or --csv.header {layout.lines + 1} takes the second."
            )


def _dialect(delimiter: str, how: Csv, *, strict: bool = True) -> dict[str, Any]:
    quoting = csv.QUOTE_NONE if how.quoting == "none" else csv.QUOTE_MINIMAL
    return {"delimiter": delimiter, "quoting": quoting, "strict": strict}


def _next(reader: Iterator[list[str]], path: Path, line: int) -> list[str]:
    try:
        return next(reader)
    except csv.Error as error:
        if "field limit" in str(error):
            raise InputError(
                f"{path}, line {line}: a cell of more than {LONGEST:,} characters. Is a double quote not closed? "
                "--csv.quoting none reads quotes as characters."
            ) from None
        raise InputError(
            f"{path}, line {line}: broken quoting ({error}). A quote within a quoted field is written twice; where "
            "quotes are characters like any other, --csv.quoting none."
        ) from None


def csv_rows(
    file: IO[bytes], path: Path, how: Csv, notes: list[str], layout: Layout | None = None
) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, cells) of each row below the header; fields that span lines are noted at the end.

    Raises:
        InputError: a row that has not as many fields as the header, broken quoting, or a field that looks as if it had
            swallowed rows; the line is named.
    """
    layout = layout or find_layout(file, path, how, notes)
    width, delimiter = len(layout.names), layout.delimiter
    file.seek(0)
    held: list[str] = []  # the lines of the row that is being read

    def hold(lines: Iterator[str]) -> Iterator[str]:
        for line in lines:
            held.append(line)
            yield line

    lines = decoded_lines(file, path, layout.encoding)
    reader = csv.reader(hold(itertools.islice(lines, layout.lines, None)), **_dialect(delimiter, how))
    first_rows: list[list[str]] = []
    spanning, longest, trailing = 0, (0, 0), 0
    while True:
        line = layout.lines + reader.line_num + 1
        held.clear()
        try:
            row = _next(reader, path, line)
        except StopIteration:
            break
        if len(held) > 1:
            if width > 1 and len(held) >= SWALLOWED and _are_rows(held[1:-1], delimiter, width, first_rows):
                raise InputError(
                    f"{path}, line {line}: a field begins with a double quote that is closed {len(held) - 1} lines "
                    "below, and these lines look like rows themselves. Correct the quotes; where they are characters "
                    "like any other, --csv.quoting none."
                )
            spanning, longest = spanning + 1, max(longest, (len(held), -line))
        if not row or (width > 1 and not any(cell.strip() for cell in row) and len(row) == 1):
            continue  # a blank line
        if not first_rows and not any(row[width:]):  # each row ends with a delimiter
            trailing = max(0, len(row) - width)
        if len(row) not in (width, width + trailing) or any(row[width:]):
            raise InputError(
                f"{path}, line {line}: {len(row)} fields, but the header has {width}. A field with a "
                f"{'tab' if delimiter == chr(9) else delimiter} or a line break in it needs double quotes around it; "
                "if the header is another line, --csv.header."
            )
        if len(first_rows) < FIRST_ROWS:
            first_rows.append([cell[:100] for cell in row])
        yield line, row[:width]
    if spanning:
        fields = "1 row has a field that spans" if spanning == 1 else f"{spanning} rows have fields that span"
        notes.append(f"{path}: {fields} several lines; the longest has {longest[0]}, from line {-longest[1]}")


def _are_rows(lines: Sequence[str], delimiter: str, width: int, first_rows: Sequence[list[str]]) -> bool:
    """Return whether lines within a quoted field look like rows: as many cells, and of the kind of the first rows."""
    split = [line.rstrip("\r\n").split(delimiter) for line in lines]
    rows = [cells for cells in split if len(cells) == width and (first_rows or all(map(str.strip, cells)))]
    compared = len(first_rows) > MOST_VALUES
    if len(rows) < MOSTLY * len(lines) or (width < 3 and not compared):
        return False
    for position in range(width) if compared else ():
        values = {row[position] for row in first_rows}
        there = [row[position] for row in rows]
        few, numbers = len(values) <= MOST_VALUES, all(map(is_number, values))
        alike = sum((few and cell in values) or (numbers and is_number(cell)) for cell in there)
        if (few or numbers) and alike < MOSTLY * len(there):
            return False
    return True
