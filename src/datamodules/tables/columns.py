"""The columns of a table as a model sees them: numbers and categories."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from sklearn.preprocessing import QuantileTransformer, StandardScaler

from src.configs.errors import InputError
from src.configs.jsonable import from_json
from src.datamodules.tables.values import DATE_PARTS, as_dates, as_numbers, words
from src.resources.files import write_json

MOST_VALUES = 255
"""Values of a category up to which scikit-learn's gradient boosting takes it as one."""
QUANTILES = 1000
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
    errors: dict[int, str]
    """Rows that cannot be used, and why."""
    unseen: dict[str, int]
    """Column -> rows with a category that training had not."""


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """Turns a table into numbers and categories. Everything fitted is here, as plain numbers and words."""

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


def bin_edges(numbers: np.ndarray, bins: int) -> tuple[tuple[float, ...], ...]:
    """Return for each column the edges of `bins` bins with about as many rows each; equal edges are one."""
    if not bins:
        return ()
    quantiles = np.quantile(numbers, np.linspace(0, 1, bins + 1), axis=0)
    edges = [np.unique(column.astype(np.float32)) for column in quantiles.T]  # apart in the network's own precision
    return tuple(tuple((column if len(column) > 1 else np.append(column, column + 1)).tolist()) for column in edges)
