"""The texts of a prediction: files, or texts and tables in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from src.configs.errors import InputError
from src.configs.table import Csv
from src.datamodules.headers import SUFFIXES, column_names
from src.datamodules.ids import id_column
from src.datamodules.preparation import PredictionInput
from src.datamodules.row_files import clean
from src.datamodules.texts.text_files import STDIN, Document, TextFile, document, suffix
from src.datamodules.texts.tokens import Encoded, TextEncoder, encode

EMPTY = "empty text"
"""Why a text without words cannot be used."""


class Given(NamedTuple):
    """The texts of a prediction."""

    encoded: Encoded
    ids: list[str]
    id_name: str
    """Of the column of ids, 'id' where there is none."""
    labels: list[str]
    """What the texts came with, '' where there is none."""
    errors: dict[int, str]
    """Position -> why a text cannot be used."""


def encode_given(
    inputs: Sequence[PredictionInput], columns: tuple[str, str], how: Csv, encoder: TextEncoder, *, strip_html: bool
) -> Given:
    """Read texts and encode them, few at a time; see `documents_of` for the arguments and errors.

    Args:
        encoder: of the run.
    """
    documents, id_name = documents_of(inputs, columns, how, strip_html=strip_html)
    ids, labels, errors = list[str](), list[str](), dict[int, str]()

    def texts() -> Iterator[str]:
        for found in documents:
            if not found.text:
                errors[len(ids)] = EMPTY
            ids.append(found.id)
            labels.append(found.label)
            yield found.text

    return Given(encode(texts(), encoder), ids, id_name, labels, errors)


def documents_of(
    inputs: Sequence[PredictionInput], columns: tuple[str, str], how: Csv, *, strip_html: bool
) -> tuple[Iterator[Document], str]:
    """Return the texts, each with its id in the predictions, and the name of their column of ids.

    Args:
        inputs: files, or texts and tables in memory.
        columns: those of the texts and of the labels.
        how: how a CSV is written.
        strip_html: put a blank in place of each HTML tag.

    Raises:
        InputError: an input that is no table of texts, or, once they are read, there is no text at all.
    """
    given = [_texts(one, *columns, how, strip_html=strip_html) for one in inputs]

    def documents() -> Iterator[Document]:
        number = -1
        for number, found in enumerate(chain.from_iterable(found for found, _ in given)):
            yield found._replace(id=str(number)) if len(inputs) > 1 else found
        if number < 0:
            shown = ", ".join(str(one) if isinstance(one, Path) else "an empty table" for one in inputs)
            raise InputError(f"{shown or 'no input'}: nothing to predict. Name a table, or - for stdin.")

    return documents(), (given[0][1] if len(given) == 1 else "") or "id"


def _texts(
    given: PredictionInput, text_column: str, label_column: str, how: Csv, *, strip_html: bool
) -> tuple[Iterable[Document], str]:
    """Return the documents of an input, and the name of its column of ids, '' where there is none.

    Labels are read where there are any, and nothing is left out.

    Raises:
        InputError: the input has no column of texts, or is of another kind.
    """
    if isinstance(given, str):
        return [document(0, given, strip_html=strip_html)], ""
    if isinstance(given, Path) and (given == STDIN or suffix(given) == ".txt"):
        return TextFile(given, strip_html=strip_html, csv=how), ""
    if isinstance(given, Path) and suffix(given) in SUFFIXES:
        there = column_names(given, how)
        label_column = label_column if label_column in there else ""
        _require(str(given), text_column, there)
        return TextFile(given, text_column, label_column, strip_html, csv=how), id_column(there)
    if isinstance(given, pd.DataFrame):
        there = [clean(str(name)) for name in given.columns]
        _require("the table", text_column, there)
        return _rows(given.set_axis(there, axis=1), text_column, label_column, strip_html), id_column(there)
    what = str(given) if isinstance(given, Path) else f"a {type(given).__name__}"
    raise InputError(
        f"{what}: no table of texts. Give {', '.join(SUFFIXES)}, .txt with a text a line, or -; from Python strings or "
        "a DataFrame too."
    )


def _require(what: str, column: str, there: list[str]) -> None:
    if column not in there:
        raise InputError(f"{what}: no column {column}, from which the run read. There: {', '.join(there)}. Rename one.")


def _rows(frame: pd.DataFrame, text_column: str, label_column: str, strip_html: bool) -> Iterator[Document]:
    frame = frame.astype(object).where(frame.notna(), None)
    ids = frame[name] if (name := id_column(frame.columns)) else range(len(frame))
    labels = frame[label_column] if label_column in frame.columns else [None] * len(frame)
    for row, text, label in zip(ids, frame[text_column], labels, strict=True):
        yield document(row, text, label, strip_html=strip_html)
