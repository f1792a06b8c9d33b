"""The columns of a table: what kind each is, and the numbers and categories that a model sees of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from sklearn.preprocessing import QuantileTransformer, StandardScaler

from src.configs.errors import InputError, did_you_mean
from src.configs.jsonable import from_json
from src.configs.table import Columns
from src.resources.files import write_json

MOSTLY = 0.95
"""Share of a column's values that have to be numbers, or dates, for it to be such a column."""
MOST_NAMES = 0.5
"""Share of distinct values above which a column of words is a name, which tells nothing of other rows."""
MOST_VALUES = 255
"""Values of a category up to which scikit-learn's gradient boosting takes it as one."""
QUANTILES = 1000
CHUNK = 1 << 16
"""Rows that are encoded at a time."""
LARGEST = float(np.finfo(np.float32).max)
DATE_PARTS = ("days", "year", "month", "weekday", "day of year")
Scaling = Literal["standard", "quantile", "log", "none"]


class Rows(NamedTuple):
    """What a model sees of some rows."""

    numbers: np.ndarray
    """float32 [rows, numbers]."""
    categories: np.ndarray
    """int64 [rows, categories]; 0 for what training had not."""
    errors: dict[int, str]
    """Rows that cannot be used, and why."""
    unseen: dict[str, int]
    """Column -> rows with a category that training had not."""


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """Turns a table into numbers and categories. All that was fitted is here, as plain numbers and words."""

    numbers: tuple[str, ...]
    dates: tuple[str, ...]
    categories: tuple[str, ...]
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

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.numbers, *self.dates, *self.categories)

    @property
    def width(self) -> int:
        """Numbers that describe a row."""
        return len(self.medians) + len(self.missing)

    def encode(self, frame: pd.DataFrame) -> Rows:
        """Encode a table that has at least the columns of training, few rows at a time: it takes several copies."""
        chunks = [self._encode(frame.iloc[start : start + CHUNK]) for start in range(0, max(1, len(frame)), CHUNK)]
        unseen = {name: sum(chunk.unseen.get(name, 0) for chunk in chunks) for name in self.categories}
        return Rows(
            np.concatenate([chunk.numbers for chunk in chunks]),
            np.concatenate([chunk.categories for chunk in chunks]),
            {CHUNK * i + row: why for i, chunk in enumerate(chunks) for row, why in chunk.errors.items()},
            {name: count for name, count in unseen.items() if count},
        )

    def _encode(self, frame: pd.DataFrame) -> Rows:
        errors: dict[int, str] = {}
        found = self._numbers(frame, errors)
        absent = np.isnan(found)
        scaled = self._scaled(self._clipped(np.where(absent, np.array(self.medians), found)))
        parts: list[np.ndarray] = []
        unseen: dict[str, int] = {}
        for name, values in zip(self.categories, self.values, strict=True):
            codes = pd.Index(values).get_indexer(pd.Index(words(frame[name]))) + 1
            parts.append(codes)
            if count := int((codes == 0).sum()):
                unseen[name] = count
        return Rows(
            np.hstack([scaled, absent[:, list(self.missing)]]).clip(-LARGEST, LARGEST).astype(np.float32),
            np.stack(parts, 1).astype(np.int64) if parts else np.zeros((len(frame), 0), np.int64),
            errors,
            unseen,
        )

    def plain(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the same columns unscaled, missing ones missing: for models that see to these things themselves."""
        names = [*self.numbers, *(f"{name} {part}" for name in self.dates for part in DATE_PARTS)]
        found = pd.DataFrame(self._numbers(frame, {}), columns=names)
        for name, values in zip(self.categories, self.values, strict=True):
            codes = pd.Index(values).get_indexer(pd.Index(words(frame[name])))
            kept = pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(list(values)))
            found[name] = kept if len(values) <= MOST_VALUES else codes
        return found

    def _numbers(self, frame: pd.DataFrame, errors: dict[int, str]) -> np.ndarray:
        """Return numbers and parts of dates, float64 [rows, numbers], NaN where there is none."""
        columns: list[np.ndarray] = []
        for name in self.numbers:
            found, bad = as_numbers(frame[name])
            errors.update({row: f"{name}: {frame[name].iloc[row]!r} is no finite number" for row in bad})
            columns.append(found)
        for name in self.dates:
            found, bad = as_dates(frame[name])
            errors.update({row: f"{name}: {frame[name].iloc[row]!r} is no date such as 2026-01-31" for row in bad})
            columns += found
        return np.stack(columns, 1) if columns else np.zeros((len(frame), 0))

    def _clipped(self, found: np.ndarray) -> np.ndarray:
        return found.clip(self.low, self.high) if self.low else found

    def _scaled(self, found: np.ndarray) -> np.ndarray:
        if not found.size or self.scaling == "none":
            return found
        if self.scaling == "quantile":
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
            return from_json(cls, json.loads(path.read_text()))
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: cannot be read ({error}); it belongs to the run.") from error


def signed_log(values: np.ndarray, scaling: str) -> np.ndarray:
    return np.sign(values) * np.log1p(np.abs(values)) if scaling == "log" else values


def fit(frame: pd.DataFrame, kinds: dict[str, str], scaling: Scaling, clip: float = 0.0) -> Encoder:
    """Fit to the training rows, and to nothing else.

    Args:
        frame: the training rows.
        kinds: column -> 'number', 'date' or 'category'.
        scaling: of the numbers.
        clip: cut numbers beyond this quantile at either end.
    """
    of = {
        kind: tuple(name for name, found in kinds.items() if found == kind) for kind in ("number", "date", "category")
    }
    values = tuple(tuple(sorted(set(words(frame[name])))) for name in of["category"])
    bare = Encoder(numbers=of["number"], dates=of["date"], categories=of["category"], values=values, scaling=scaling)
    found = bare._numbers(frame, {})
    medians = np.array([np.median(column[~np.isnan(column)]) for column in found.T])
    missing = np.flatnonzero(np.isnan(found).any(0))
    filled = np.where(np.isnan(found), medians, found)
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
    return Encoder(**{**vars(bare), **fitted})


def words(column: pd.Series) -> list[str]:
    """Return values as words, '' for missing ones; a whole number reads the same however the table holds it."""
    return ["" if absent else _word(value) for value, absent in zip(column.tolist(), column.isna(), strict=True)]


def _word(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def as_numbers(column: pd.Series) -> tuple[np.ndarray, list[int]]:
    """Return float64 values, NaN for missing ones, and the rows whose value is no finite number."""
    found = pd.to_numeric(column, errors="coerce").to_numpy(float, na_value=np.nan)
    blank = absent(column)
    bad = (np.isnan(found) & ~blank) | np.isinf(found)
    return np.where(np.isinf(found), np.nan, found), np.flatnonzero(bad).tolist()


def absent(column: pd.Series) -> np.ndarray:
    """Return which values are missing or blank."""
    missing = column.isna().to_numpy()
    if pd.api.types.is_numeric_dtype(column):  # of a million numbers, strings would take longer than all else together
        return missing
    return missing | (column.astype(str).str.strip() == "").to_numpy()


def as_dates(column: pd.Series) -> tuple[list[np.ndarray], list[int]]:
    """Return `DATE_PARTS` as float64 columns, NaN for missing ones, and the rows whose value is no date.

    A date begins with year, month and day (ISO 8601): 01/02/2020 is another day in another country.
    """
    if pd.api.types.is_datetime64_any_dtype(column):
        found = pd.to_datetime(column, utc=True)
    else:
        iso = column.astype(str).str.match(r"\s*\d{4}-\d\d-\d\d")
        found = pd.to_datetime(column.astype(str).where(iso), errors="coerce", format="ISO8601", utc=True)
    bad = np.flatnonzero((found.isna() & column.notna()).to_numpy()).tolist()
    found = found.dt.as_unit("s")
    days = (found - pd.Timestamp("1970-01-01", tz="UTC").as_unit("s")) / pd.Timedelta(days=1)
    parts = (days, found.dt.year, found.dt.month, found.dt.day_of_week, found.dt.day_of_year)
    return [part.to_numpy(float, na_value=np.nan) for part in parts], bad


def infer(frame: pd.DataFrame, given: Columns, notes: list[str], *, leave_out: Sequence[str] = ()) -> dict[str, str]:
    """Return the kind of each column that the model is to see; what is left out or odd is added to `notes`.

    Args:
        frame: the training rows.
        given: kinds that the user has named.
        leave_out: further columns that are not for the model: the target, ids.

    Raises:
        InputError: a named column is not there, or has a value that is not of its kind; infinite numbers; no column is
            left.
    """
    named = {name: kind for kind in ("number", "category", "date") for name in getattr(given, kind)}
    for name in (*named, *given.ignored, *filter(None, [given.group])):
        if name not in frame.columns:
            hint = did_you_mean(name, list(frame.columns))
            raise InputError(f"--columns: no column {name}.{hint} There: {', '.join(frame.columns)}.")
    kinds: dict[str, str] = {}
    left_out: list[str] = []
    for name in frame.columns:
        if name in (*given.ignored, *leave_out, given.group):
            continue
        column = frame[name]
        if column.isna().all() or column.nunique(dropna=False) == 1:
            left_out.append(f"{name} (always {'missing' if column.isna().all() else column.iloc[0]})")
            continue
        kind = named.get(name) or guess(column)
        if kind == "name":
            left_out.append(f"{name} ({column.nunique()} different words)")
            continue
        if kind != "category":
            check(column, kind, notes, strict=name in named)
        kinds[name] = kind
    if left_out:
        notes.append(f"columns left out: {', '.join(left_out)}")
    if not kinds:
        raise InputError("no column is left that the model could see: give the table more, or --columns.")
    return kinds


def guess(column: pd.Series) -> str:
    """Return 'number', 'date', 'category', or 'name' for words of which most are different."""
    if pd.api.types.is_bool_dtype(column):
        return "category"
    if pd.api.types.is_numeric_dtype(column):
        return "number"
    if pd.api.types.is_datetime64_any_dtype(column):
        return "date"
    there = column[column.notna()].astype(str)
    if len(as_numbers(there)[1]) <= (1 - MOSTLY) * len(there):
        return "number"
    if len(as_dates(there)[1]) <= (1 - MOSTLY) * len(there):
        return "date"
    return "name" if there.nunique() > max(20, MOST_NAMES * len(column)) else "category"


def check(column: pd.Series, kind: str, notes: list[str], *, strict: bool) -> None:
    """Refuse infinite numbers and, in a column that the user named, what is not of its kind; else note it."""
    if kind == "number":
        if pd.api.types.is_numeric_dtype(column) and len(rows := np.flatnonzero(np.isinf(column.to_numpy(float)))):
            raise InputError(
                f"column {column.name}: {len(rows)} infinite values (rows {some(column.index[rows])}, counted from 0). "
                f"Empty them, or --columns.ignored {column.name}."
            )
        bad = as_numbers(column)[1]
    else:
        bad = as_dates(column)[1]
    if not bad:
        return
    shown = ", ".join(repr(column.iloc[row]) for row in bad[:3])
    if strict:
        raise InputError(
            f"column {column.name}: {len(bad)} values are no {kind}: {shown} (rows {some(column.index[bad])}, counted "
            f"from 0). Correct or empty them, or --columns.category {column.name}."
        )
    notes.append(f"column {column.name}: {len(bad)} values are no {kind} and count as missing: {shown}")


def some(rows: Sequence[int] | np.ndarray | pd.Index) -> str:
    """Return the first few row numbers."""
    return ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
