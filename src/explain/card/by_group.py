"""Scores of the groups that a column of the run's own table makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from src.configs.errors import InputError
from src.configs.words import word
from src.datamodules import DataModule, ImageTable, Table, TextTable
from src.datamodules.headers import SUFFIXES, require_column, typed
from src.datamodules.ids import id_column
from src.datamodules.sources import own_data, split_files
from src.datamodules.tables.cells import words
from src.datamodules.tables.spelling import PLAIN, Spelling
from src.datamodules.tables.table_files import from_frame, read
from src.datamodules.tables.values import as_numbers
from src.explain.card.intervals import LEVEL, MAIN, Interval, Score, scores_of
from src.explain.card.reported import Evaluated, Reported
from src.inference.own_data import data_of, moved_to
from src.loading import load
from src.resources.files import as_on_disk, printable
from src.runs import records

FEW = 20
"""Examples below which nothing is said of a group."""
MOST_GROUPS = 20
"""Groups of a column that are shown, the largest."""
MOST_VALUES = 8
"""Distinct numbers up to which each is a group; more are cut into quartiles."""
SPELLINGS = (PLAIN, Spelling(decimal=","))
MISSING = "(missing)"
TABLES = (Table, TextTable, ImageTable)
"""Data modules whose examples are rows of a table."""


@dataclass(frozen=True)
class GroupScore:
    """How good the predictions of a group are."""

    name: str
    examples: int
    score: Score | None
    """None where the examples are too few to say."""


@dataclass(frozen=True)
class Grouped:
    """The groups of a column."""

    column: str
    split: str
    metric: str
    groups: list[GroupScore]
    left_out: int
    """Groups that are not shown."""
    overall: Score
    corrected: Interval | None = None
    """Interval of the worst group's score, wide enough for having been picked from all that have one (Bonferroni)."""

    @property
    def worst(self) -> GroupScore | None:
        """The group with the worst score; None where fewer than two have one."""
        known = [group for group in self.groups if group.score and not np.isnan(group.score.value)]
        if len(known) < 2:
            return None
        least = max if self.metric == "rmse" else min
        return least(known, key=lambda group: group.score.value if group.score else 0.0)

    @property
    def stands_out(self) -> bool:
        """Whether the score of all lies outside the corrected interval of the worst group."""
        if self.corrected is None:
            return False
        low, high = self.corrected
        return not low <= self.overall.value <= high


def grouped(reported: Reported, names: Sequence[str], data_dir: Path | None = None) -> list[Grouped]:
    """Return the groups that each of some columns makes of the first evaluated split.

    Args:
        reported: the run.
        names: of the columns.
        data_dir: where the run's data are now, if they have moved.

    Raises:
        InputError: there are no predictions, the data are gone or others by now, or there is no such column.
    """
    if not names:
        return []
    flag = f"--group {names[0]}"
    if not reported.evaluated:
        raise InputError(f"{flag}: {reported.run} has saved no predictions that could be grouped. Leave it out.")
    evaluated = reported.evaluated[0]
    cells = _cells(reported, evaluated, [typed(name) for name in names], data_dir)
    return [
        _of_column(name, cells[name], evaluated, numbers=name != reported.group_column) for name in map(typed, names)
    ]


def _of_column(name: str, cells: pd.Series, evaluated: Evaluated, *, numbers: bool) -> Grouped:
    group_of, order = cut(cells.tolist(), numbers=numbers)
    counts = group_of.value_counts()
    shown = [group for group in order if group in set(counts.index[:MOST_GROUPS])]
    kind, found = evaluated.objective.spec.target.kind, list[GroupScore]()

    def score_of(group: str, level: float = LEVEL) -> Score:
        rows = np.flatnonzero(group_of == group)
        part = {column: values[rows] for column, values in evaluated.predicted.items()}
        return scores_of(kind, part, evaluated.target[rows], level)[MAIN[kind]]

    for group in shown:
        count = int(counts[group])
        found.append(GroupScore(group, count, score_of(group) if count >= FEW else None))
    overall = evaluated.scores[MAIN[kind]]
    each = Grouped(name, evaluated.split, MAIN[kind], found, len(order) - len(shown), overall)
    if each.worst is None:
        return each
    scored = sum(group.score is not None for group in found)
    return replace(each, corrected=score_of(each.worst.name, 1 - (1 - LEVEL) / scored).interval)


def cut(cells: Sequence[str], *, numbers: bool = True) -> tuple[pd.Series, list[str]]:
    """Return the group of each cell, and all groups in order: words as they are, many numbers by quartiles.

    Args:
        cells: as text, '' for missing ones.
        numbers: whether there may be numbers; those of a column that names groups are words.
    """
    column = pa.chunked_array([pa.array(cells, pa.string())])
    for spelling in SPELLINGS if numbers else ():
        values, bad = as_numbers(column, spelling)
        if not bad and len(np.unique(values[~np.isnan(values)])) > MOST_VALUES:
            edges = np.unique(np.nanquantile(values, (0.25, 0.5, 0.75)))
            shown = [f"{edge:.4g}" for edge in edges]
            names = [f"up to {shown[0]}", *(f"{low} to {high}" for low, high in pairwise(shown))]
            names.append(f"above {shown[-1]}")
            places = np.searchsorted(edges, values)
            found = pd.Series(np.where(np.isnan(values), MISSING, np.array(names)[np.minimum(places, len(edges))]))
            return found, [name for name in [*names, MISSING] if (found == name).any()]
    found = pd.Series([cell or MISSING for cell in cells])
    return found, sorted(set(found), key=lambda name: (name == MISSING, name))


# ----------------------------------------------------------------------------------------------------------- the cells
def _cells(reported: Reported, evaluated: Evaluated, names: list[str], data_dir: Path | None) -> pd.DataFrame:
    """Return the cells of some columns for each prediction, as text [predictions, columns]."""
    if evaluated.split != "folds":
        return _cells_of(reported.members[0], evaluated.split, evaluated.rows["id"].tolist(), names, data_dir)
    parts = [
        _cells_of(member, "test", rows["id"].tolist(), names, data_dir).set_index(rows.index)
        for number, member in enumerate(reported.members, 1)
        for rows in [evaluated.rows[evaluated.rows["fold"] == str(number)]]
    ]
    return pd.concat(parts).sort_index()


def _cells_of(run: Path, split: str, ids: list[str], names: list[str], data_dir: Path | None) -> pd.DataFrame:
    """Return the cells of a run without children."""
    record = records.load(run)
    with records.explain_record_errors(run, record):
        experiment = load(record["experiment"]).from_json(record["fields"])
    if not isinstance(experiment.datamodule(), TABLES):
        raise InputError(
            f"--group {names[0]}: the data of {run} ({record['data']['source']}) are no table, so they have no columns."
        )
    datamodule = data_of(run, moved_to(experiment, data_dir))
    table, there = _table_of(datamodule, split)
    for name in names:
        require_column(table.column_names, name, "--group")
    cells = pd.DataFrame({name: words(table[name]) for name in names})
    if there == ids:
        return cells
    cells.index = pd.Index([name.replace("\r", "\\r") for name in there])  # as the CSV has it
    cells = cells[~(cells.index.duplicated() & cells.duplicated())]
    if repeated := cells.index[cells.index.duplicated()].tolist():
        raise InputError(f"--group {names[0]}: {repeated[0]} names several rows, with different cells.")
    if strange := [name for name in ids if name not in cells.index]:
        raise InputError(f"--group {names[0]}: the data have no row {strange[0]}, which the run has predicted.")
    return cells.loc[ids].reset_index(drop=True)


def _table_of(datamodule: DataModule, split: str) -> tuple[pa.Table, list[str]]:
    """Return the table that has the rows of a split, maybe with others, and the id of each row."""
    if isinstance(datamodule, Table):
        ids = [*datamodule.ids(split)]
        frame: Any = datamodule.raw_inputs(split, range(len(ids)))[0]
        return from_frame(frame), ids
    assert isinstance(datamodule, TextTable | ImageTable)
    path = own_data(datamodule.data_dir, datamodule.table_name, SUFFIXES)
    if path is None:
        raise InputError(f"--group: the run's data ({datamodule.loaded.source}) are no table of yours. Leave it out.")
    files = split_files(path, [])
    table = read(files.get(split, files["train"]), datamodule.csv)
    if isinstance(datamodule, ImageTable):
        return table, [printable(as_on_disk(word(cell))) for cell in table[datamodule.path_column].to_pylist()]
    name = id_column(table.column_names)
    return table, words(table[name]) if name else [str(row) for row in range(len(table))]
