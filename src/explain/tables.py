"""Rows of tables, in columns that can be hidden: as the user has them, not as the network takes them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from typing_extensions import override

from src.configs.spec import DataSpec
from src.datamodules import PredictionInput, Table
from src.datamodules.tables.cells import words
from src.datamodules.tables.columns import Encoder, decode
from src.datamodules.tables.kinds import Column
from src.datamodules.tables.values import DATE_PARTS
from src.explain.example import Example

BACKGROUNDS = 32
"""Training rows whose cells take the place of hidden ones."""
AT_ONCE = 2048
"""Rows that the network takes at once: of a perceptron on 73 columns, more are slower, since they leave the caches."""
SLIGHT = 0.01
"""Standard deviation of the noise that should not matter, of scaled numbers."""


@dataclass(frozen=True, eq=False)
class Places:
    """Which column each number and each category is of: a number's missing indicator and a date's parts are its own."""

    numbers: np.ndarray
    """Position of the column, int64 [numbers]."""
    categories: np.ndarray
    """The same, int64 [categories]."""

    @classmethod
    def of(cls, encoder: Encoder) -> Places:
        parts = [
            place
            for place, column in enumerate(encoder.columns)
            for _ in range({"number": 1, "date": len(DATE_PARTS)}.get(column.kind, 0))
        ]
        numbers = [*parts, *(parts[place] for place in encoder.missing)]
        categories = [encoder.names.index(name) for name in encoder.categories]
        return cls(np.array(numbers, np.int64), np.array(categories, np.int64))

    @property
    def all(self) -> np.ndarray:
        """Position of the column of each number, then of each category."""
        return np.concatenate([self.numbers, self.categories])


@dataclass(frozen=True, eq=False)
class Background:
    """Training rows: those that hidden cells are drawn from, and what the others' cells are compared with."""

    numbers: Tensor
    """float32 [backgrounds, numbers]."""
    categories: Tensor
    """int64 [backgrounds, categories]."""
    plain: pd.DataFrame
    """The same rows as the baselines of a run take them."""
    ordered: Mapping[str, np.ndarray]
    """Numbers and dates, which are days since 1970 -> the values that training rows have, ascending."""
    shares: Mapping[str, np.ndarray]
    """Categories -> the share of the training rows with each value, by its code."""

    def __len__(self) -> int:
        return len(self.numbers)


class TableExample(Example):
    """A row. Its parts are the columns that the run has seen; hidden ones have the cells of training rows.

    Attributes:
        places: of its numbers and categories.
        background: the rows that cells are drawn from.
        cells: what stands in each column.
        quantiles: for each column the share of training rows with a smaller number or an earlier date, of those that
            have one, or with the same category; NaN where there is none.
        plain: the same row as the baselines of a run take it, a table of one row.
        expected: the target that it came with, '' where there is none.
    """

    at_once = AT_ONCE

    def __init__(
        self,
        id: str,
        names: tuple[str, ...],
        tensors: tuple[Tensor, Tensor],
        places: Places,
        background: Background,
        *,
        cells: tuple[str, ...],
        quantiles: tuple[float, ...],
        plain: pd.DataFrame,
        expected: str = "",
    ) -> None:
        super().__init__(id, names, tensors, expected)
        self.places, self.background, self.backgrounds = places, background, len(background)
        self.cells, self.quantiles, self.plain = cells, quantiles, plain

    @override
    def hidden(self, kept: np.ndarray) -> tuple[Tensor, Tensor]:
        numbers, categories = self.tensors
        return (
            _mixed(numbers, self.background.numbers, kept[:, self.places.numbers]),
            _mixed(categories, self.background.categories, kept[:, self.places.categories]),
        )

    @override
    def changed(self) -> TableExample:
        """Return the row with a hundredth of a standard deviation of noise on its numbers."""
        numbers, categories = self.tensors
        other = copy.copy(self)
        noise = torch.randn(numbers.shape, generator=torch.Generator().manual_seed(0))
        other.tensors = numbers + SLIGHT * noise, categories
        return other

    def of_columns(self, values: np.ndarray) -> np.ndarray:
        """Return the sum of each column, float64 [parts], of values [numbers + categories]."""
        return np.bincount(self.places.all, weights=values, minlength=len(self))

    @property
    def varying(self) -> np.ndarray:
        """Positions of the columns in which the row differs from a background row; the others cannot matter."""
        (numbers, categories), rows = self.tensors, self.background
        differ = torch.cat([(numbers != rows.numbers).any(0), (categories != rows.categories).any(0)]).numpy()
        return np.unique(self.places.all[differ])


def _mixed(own: Tensor, others: Tensor, kept: np.ndarray) -> Tensor:
    """Return [masks * backgrounds, features] of a row [1, features] and others [backgrounds, features]."""
    return torch.where(torch.from_numpy(kept)[:, None], own, others).flatten(0, 1)


def background(datamodule: Table, *, count: int = BACKGROUNDS, seed: int = 0) -> Background:
    """Return training rows to hide cells with.

    Args:
        datamodule: set up.
        count: rows that are drawn; all of them where there are fewer.
        seed: of the draw.
    """
    rows = len(datamodule.targets("train"))
    drawn = np.sort(np.random.default_rng(seed).choice(rows, min(count, rows), replace=False))
    dataset: Any = datamodule.dataset("train", train=False)
    whole = dataset[list(range(rows))]
    encoder = datamodule.preparation(datamodule.spec).encoder
    plain = datamodule.baseline_inputs("train")
    ordered = {
        column.name: np.sort(plain[measured(column)].dropna().to_numpy(float))
        for column in encoder.columns
        if column.name not in encoder.categories
    }
    codes = whole["categories"].numpy()
    shares = {
        name: np.bincount(codes[:, place], minlength=len(values) + 1) / rows
        for place, (name, values) in enumerate(zip(encoder.categories, encoder.values, strict=True))
    }
    return Background(whole["numbers"][drawn], whole["categories"][drawn], plain.iloc[drawn], ordered, shares)


def column_of_plain(name: str, columns: Sequence[Column]) -> int:
    """Return the position of the column that a feature of the baselines' tables is of: a date's parts are its own."""
    return next(
        place
        for place, column in enumerate(columns)
        if name in ([f"{column.name} {part}" for part in DATE_PARTS] if column.kind == "date" else [column.name])
    )


def measured(column: Column) -> str:
    """Return the name of the numbers that a number or a date is decoded as; of a date its days."""
    return f"{column.name} {DATE_PARTS[0]}" if column.kind == "date" else column.name


def read(
    datamodule: Table, spec: DataSpec, inputs: Sequence[PredictionInput], background: Background
) -> tuple[list[TableExample], dict[str, str], list[str]]:
    """Read rows to explain as a prediction reads them.

    Args:
        datamodule: of the run, restored or set up.
        spec: of the run.
        inputs: files, tables or rows; see `Preparation.read`.
        background: see `background`.

    Returns:
        The rows; id -> why a row cannot be used; what the user should know.

    Raises:
        InputError: an input is no table, lacks a column, or there is no row.
    """
    notes: list[str] = []
    preparation = datamodule.preparation(spec)
    encoder, places = preparation.encoder, Places.of(preparation.encoder)
    tables = preparation.tables(inputs, notes)
    prepared = preparation.prepare(tables, notes)
    cells = [[word for table in tables for word in words(table[name])] for name in encoder.names]
    decoded = [decode(table, encoder.columns).frame for table in tables]
    plain = pd.concat([encoder.plain(frame) for frame in decoded], ignore_index=True)
    quantiles = np.stack(
        [_quantiles(encoder, place, decoded, prepared.rows.categories, background) for place in range(len(cells))], 1
    )
    numbers, categories = map(torch.from_numpy, prepared.rows)
    expected = prepared.expected or [""] * len(prepared)
    examples = [
        TableExample(
            prepared.ids[row],
            encoder.names,
            (numbers[row : row + 1], categories[row : row + 1]),
            places,
            background,
            cells=tuple(column[row] for column in cells),
            quantiles=tuple(quantiles[row].tolist()),
            plain=plain.iloc[row : row + 1],
            expected=expected[row],
        )
        for row in range(len(prepared))
        if row not in prepared.errors
    ]
    return examples, {prepared.ids[row]: why for row, why in prepared.errors.items()}, notes


def _quantiles(
    encoder: Encoder, place: int, decoded: Sequence[pd.DataFrame], codes: np.ndarray, background: Background
) -> np.ndarray:
    """Return the quantiles of one column of some rows, float64 [rows]; see `TableExample`."""
    column = encoder.columns[place]
    if column.name in encoder.categories:
        found = background.shares[column.name][codes[:, encoder.categories.index(column.name)]]
        absent = np.concatenate([frame[column.name].astype(str) == "" for frame in decoded])
        return np.where(absent, np.nan, found)
    values = np.concatenate([frame[measured(column)] for frame in decoded])
    there = background.ordered[column.name]
    return np.where(np.isnan(values), np.nan, np.searchsorted(there, values) / len(there))
