"""The columns of a table as a model sees them: numbers and categories."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from src.configs.errors import InputError
from src.configs.jsonable import from_json
from src.configs.words import MISSING, respell, truth
from src.datamodules.tables.kinds import Column
from src.datamodules.tables.spelling import PLAIN, Spelling
from src.datamodules.tables.values import DATE_PARTS, as_categories, as_dates, as_numbers
from src.resources.files import write_json

MOST_VALUES = 255
"""Values of a category up to which scikit-learn's gradient boosting takes it as one."""
QUANTILES = 1000
ROUNDED = 1e-3
"""Share of a column's deviation up to which float32 may round its values."""
CHUNK = 1 << 16
"""Rows that are encoded at a time."""
LARGEST = float(np.finfo(np.float32).max)
Scaling = Literal["standard", "quantile", "log", "none"]


class Rows(NamedTuple):
    """What a model sees of some rows."""

    numbers: np.ndarray
    """float32 [rows, numbers]."""
    categories: np.ndarray
    """int64 [rows, categories]; 0 for what training had not."""


class Decoded(NamedTuple):
    """The cells of a table, read as its columns are spelled."""

    frame: pd.DataFrame
    """float64 numbers and parts of dates, NaN for missing ones; then categories as words, '' for missing ones."""
    bad: dict[str, list[int]]
    """Column -> rows whose value is not of its kind, and counts as missing."""


def by_kind(columns: Iterable[Column]) -> tuple[Column, ...]:
    """Return columns in the order in which they are decoded: numbers, dates, then categories."""
    return tuple(sorted(columns, key=lambda column: {"number": 0, "date": 1}.get(column.kind, 2)))


def decode(table: pa.Table, columns: Sequence[Column]) -> Decoded:
    """Read the cells of a table that has at least these columns. How a cell is read does not depend on other cells.

    Args:
        table: any rows.
        columns: what each is, as `by_kind` orders them.
    """
    numeric = [name for column in columns for name in _numeric_names(column)]
    numbers = np.empty((len(table), len(numeric)))
    categories: dict[str, pd.Categorical] = {}
    bad: dict[str, list[int]] = {}
    at = 0
    for column in columns:
        cells = table[column.name]
        if column.kind == "number":
            numbers[:, at], wrong = as_numbers(cells, column.spelling)
            at += 1
        elif column.kind == "date":
            parts, wrong = as_dates(cells, column.spelling)
            for part in parts:
                numbers[:, at] = part
                at += 1
        else:
            categories[column.name], wrong = as_categories(cells, functools.partial(_category, column=column)), []
        if wrong:
            bad[column.name] = wrong
    frame = pd.DataFrame(numbers, columns=pd.Index(numeric, dtype=object), copy=False)
    if categories:
        frame = pd.concat([frame, pd.DataFrame(categories)], axis=1)
    return Decoded(frame, bad)


def unusable(table: pa.Table, columns: Sequence[Column], bad: Mapping[str, Sequence[int]]) -> dict[int, str]:
    """Return the rows that have a value which is not of its column's kind, and why they cannot be used."""
    errors: dict[int, str] = {}
    for column in columns:
        for row in bad.get(column.name, ()):
            cell, how = table[column.name][row].as_py(), column.spelling
            shown = (how.date or "2026-01-31") if column.kind == "date" else ""
            what = f"no date such as {shown}" if shown else f"no finite number{f' ({how})' if str(how) else ''}"
            errors[row] = f"{column.name}: {cell!r} is {what}"
    return errors


def _numeric_names(column: Column) -> list[str]:
    if column.kind == "date":
        return [f"{column.name} {part}" for part in DATE_PARTS]
    return [column.name] if column.kind == "number" else []


def _category(word: str, column: Column) -> str:
    if column.kind == "boolean":
        word = "" if word.lower() in MISSING else truth(word)
    return "" if word in column.spelling.missing else word


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """Turns decoded cells into numbers and categories. Everything fitted is here, as plain numbers and words."""

    columns: tuple[Column, ...]
    values: tuple[tuple[str, ...], ...]
    """For each category its values; '' stands for a missing one."""
    scaling: Scaling
    medians: tuple[float, ...] = field(default=())
    """Of each number and each part of a date; takes the place of missing ones."""
    missing: tuple[int, ...] = field(default=())
    """Positions of the numbers that training misses somewhere: each gets an indicator."""
    low: tuple[float, ...] = field(default=())
    high: tuple[float, ...] = field(default=())
    """What lies beyond is cut; empty where nothing is."""
    mean: tuple[float, ...] = field(default=())
    scale: tuple[float, ...] = field(default=())
    quantiles: tuple[tuple[float, ...], ...] = field(default=())
    """For each of some shares of the training rows the value of each number."""
    target: Spelling = PLAIN
    """How numbers to predict are written."""

    @property
    def names(self) -> tuple[str, ...]:
        """Columns that the model sees."""
        return tuple(column.name for column in self.columns)

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns if column.kind in ("category", "boolean"))

    @property
    def width(self) -> int:
        """Numbers that describe a row."""
        return len(self.medians) + len(self.missing)

    def encode(self, frame: pd.DataFrame) -> Rows:
        """Encode rows that `decode` has read, few at a time: it takes several copies."""
        numbers = np.empty((len(frame), self.width), np.float32)
        for start in range(0, len(frame), CHUNK):
            rows = slice(start, start + CHUNK)
            found = frame.iloc[rows, : len(self.medians)].to_numpy(float)
            absent = np.isnan(found)
            scaled = self._scaled(self._clipped(np.where(absent, np.array(self.medians), found)))
            numbers[rows] = np.hstack([scaled, absent[:, list(self.missing)]]).clip(-LARGEST, LARGEST)
        codes = [self._codes(frame[name], values) + 1 for name, values in self._with_values()]
        return Rows(numbers, np.stack(codes, 1) if codes else np.zeros((len(frame), 0), np.int64))

    def unseen(self, categories: np.ndarray) -> dict[str, int]:
        """Return column -> rows with a category that training had not, of `Rows.categories`."""
        counts = (categories == 0).sum(0).tolist()
        return {name: count for name, count in zip(self.categories, counts, strict=True) if count}

    def rounded(self, frame: pd.DataFrame, rows: np.ndarray) -> list[str]:
        """Return a note where numbers that are not scaled are too far from 0 for float32 to tell them apart."""
        names = frame.columns[: len(self.medians)] if self.scaling == "none" else []
        columns = {name: frame[name].iloc[rows].dropna().to_numpy(float) for name in names}
        lost = {name: np.abs(found - found.astype(np.float32)).max() for name, found in columns.items()}
        names = [str(name) for name, most in lost.items() if most > ROUNDED * columns[name].std()]
        return [f"float32 rounds {', '.join(names)}; --prep.numbers standard does not"] if names else []

    def _with_values(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        return zip(self.categories, self.values, strict=True)

    def _codes(self, column: pd.Series, values: Sequence[str]) -> np.ndarray:
        """Return positions in `values`, int64 [rows]; -1 for other words."""
        words = column.cat.categories.tolist()
        spelled = respell(words, values)
        place = {value: position for position, value in enumerate(values)}
        places = np.array([place.get(spelled[word], -1) for word in words], np.int64)
        return places[column.cat.codes] if words else places

    def plain(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the same columns unscaled, missing ones missing: for models that see to these things themselves."""
        found = frame.iloc[:, : len(self.medians)].reset_index(drop=True)
        for name, values in self._with_values():
            codes = self._codes(frame[name], values)
            kept = pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(list(values)))
            found[name] = kept if len(values) <= MOST_VALUES else codes
        return found

    def _clipped(self, found: np.ndarray) -> np.ndarray:
        return found.clip(self.low, self.high) if self.low else found

    def _scaled(self, found: np.ndarray) -> np.ndarray:
        if not found.size or self.scaling == "none":
            return found
        if self.scaling == "quantile":
            from sklearn.preprocessing import QuantileTransformer  # its import takes a second

            quantiles = np.array(self.quantiles)
            scaler: Any = QuantileTransformer(output_distribution="normal")
            scaler.n_features_in_, scaler.n_quantiles_ = found.shape[1], len(quantiles)
            scaler.quantiles_, scaler.references_ = quantiles, np.linspace(0, 1, len(quantiles))
            return np.asarray(scaler.transform(found))
        return (signed_log(found, self.scaling) - np.array(self.mean)) / np.array(self.scale)

    def save(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Encoder:
        """Read what `save` wrote.

        Raises:
            InputError: no such file, or a damaged one.
        """
        try:
            return from_json(cls, json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: cannot be read ({error}); it belongs to the run.") from error


def signed_log(values: np.ndarray, scaling: str) -> np.ndarray:
    return np.sign(values) * np.log1p(np.abs(values)) if scaling == "log" else values


def fit(
    frame: pd.DataFrame, columns: Sequence[Column], scaling: Scaling, clip: float = 0.0, target: Spelling = PLAIN
) -> Encoder:
    """Fit to the training rows, and to nothing else.

    Args:
        frame: the training rows, decoded.
        columns: what each is, as `by_kind` orders them.
        scaling: of the numbers.
        clip: cut numbers beyond this quantile at either end.
        target: how numbers to predict are written.
    """
    from sklearn.preprocessing import QuantileTransformer, StandardScaler

    bare = Encoder(columns=tuple(columns), values=(), scaling=scaling, target=target)
    values = tuple(
        tuple(sorted(frame[name].cat.categories[np.unique(frame[name].cat.codes)])) for name in bare.categories
    )
    found = frame.iloc[:, : frame.shape[1] - len(values)].to_numpy(float)
    medians = np.array([np.median(column[~np.isnan(column)]) for column in found.T])
    missing = np.flatnonzero(np.isnan(found).any(0))
    filled = np.where(np.isnan(found), medians, found) if missing.size else found
    fitted: dict[str, Any] = {"medians": tuple(medians.tolist()), "missing": tuple(missing.tolist())}
    if filled.size and clip:
        ends = np.quantile(filled, [clip, 1 - clip], axis=0)
        filled = filled.clip(*ends)
        fitted |= {"low": tuple(ends[0].tolist()), "high": tuple(ends[1].tolist())}
    if filled.size and scaling == "quantile":
        count = min(QUANTILES, len(filled))
        quantiles = np.asarray(QuantileTransformer(n_quantiles=count, subsample=len(filled)).fit(filled).quantiles_)
        fitted["quantiles"] = tuple(map(tuple, quantiles.tolist()))
    elif filled.size and scaling != "none":
        scaler = StandardScaler().fit(signed_log(filled, scaling))
        fitted |= {"mean": tuple(np.asarray(scaler.mean_).tolist()), "scale": tuple(np.asarray(scaler.scale_).tolist())}
    return replace(bare, values=values, **fitted)


def bin_edges(numbers: np.ndarray, bins: int) -> tuple[tuple[float, ...], ...]:
    """Return for each column the edges of `bins` bins with about as many rows each; equal edges are one."""
    if not bins:
        return ()
    quantiles = np.quantile(numbers, np.linspace(0, 1, bins + 1), axis=0)
    edges = [np.unique(column.astype(np.float32)) for column in quantiles.T]  # apart in the network's own precision
    return tuple(tuple((column if len(column) > 1 else np.append(column, column + 1)).tolist()) for column in edges)
