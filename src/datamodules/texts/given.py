"""The texts of a prediction: files, or texts and tables in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from src.configs.errors import InputError
from src.datamodules.capabilities import PredictionInput
from src.datamodules.ids import id_column
from src.datamodules.texts.text_files import STDIN, SUFFIXES, Document, TextFile, column_names, document, suffix


def given_texts(
    given: PredictionInput, text_column: str, label_column: str, *, strip_html: bool
) -> tuple[Iterable[Document], str]:
    """Return the documents of an input, and the name of its column of ids, '' where there is none.

    Labels are read where there are any, and nothing is left out.

    Raises:
        InputError: the input has no column of texts, or is of another kind.
    """
    if isinstance(given, str):
        return [document(0, given, strip_html=strip_html)], ""
    if isinstance(given, Path) and (given == STDIN or suffix(given) == ".txt"):
        return TextFile(given, strip_html=strip_html), ""
    if isinstance(given, Path) and suffix(given) in SUFFIXES:
        there = column_names(given)
        label_column = label_column if label_column in there else ""
        _require(str(given), text_column, there)
        return TextFile(given, text_column, label_column, strip_html), id_column(there)
    if isinstance(given, pd.DataFrame):
        there = [str(name) for name in given.columns]
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
