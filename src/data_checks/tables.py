"""Tables: rows that are in two splits, columns that give the target away, name the rows, or hardly ever change."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, SplineTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from src.data_checks.findings import Examples, Finding, Pair
from src.datamodules.tables.numbering import FEW_ROWS, note, numbering

GIVEN_AWAY = 0.99
"""R2, or balanced accuracy, of one column alone from which on it is taken for the target in other words."""
NEARLY = 0.95
"""The same, from which on a person is asked. The best column of the packaged tables gets 0.90."""
HOPELESS = 0.7
"""Score of the first tree below which nothing else is tried: it loses less than that to noise."""
LEAF = 10
"""Rows of a leaf of the second tree: alone, one of single rows learns the noise of a column that is not exact."""
CONSTANT = 0.995
"""Share of the rows with the same value from which on a column says next to nothing."""
COARSE = 0.05
"""Share of the training rows that are like another one above which a table is too coarse to tell rows apart."""
DIGITS = 5
FOLDS = 5


def row_hashes(frame: pd.DataFrame) -> np.ndarray:
    """Return a hash of each row and column, uint64 [rows, columns]; numbers that agree in five digits, of their own or
    of the column's deviation where that is smaller, are the same."""
    columns = [pd.util.hash_pandas_object(_rounded(frame[name]), index=False).to_numpy() for name in frame.columns]
    salts = np.random.default_rng(0).integers(1, 2**63, len(columns), dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    return np.stack(columns, 1) * salts


def _rounded(column: pd.Series) -> pd.Series:
    if not pd.api.types.is_numeric_dtype(column):
        return column.astype(str)
    values = column.to_numpy(float)
    size = np.where(values == 0, 1, np.abs(values))
    if (deviation := float(column.std())) > 0:
        size = np.minimum(size, deviation)
    size = np.floor(np.log10(size))
    scale = 10.0 ** (np.nan_to_num(size) - DIGITS + 1)
    return pd.Series(np.round(values / scale) * scale)


def repeated(examples: Examples, frame: pd.DataFrame) -> tuple[list[Pair], list[Pair]]:
    """Return the rows of val and test that an earlier split has too, and those that differ in one column only.

    All columns that the model sees count, the target does not.
    """
    cells = row_hashes(frame)
    whole = cells.sum(1)
    same = list(_equal(examples, whole, "the same"))
    there = {(pair.early, pair.late) for pair in same}
    nearly: dict[tuple[int, int], Pair] = {}
    for column, name in enumerate(frame.columns):
        for pair in _equal(examples, whole - cells[:, column], f"all but {name}"):
            if (pair.early, pair.late) not in there:
                nearly[pair.early, pair.late] = pair
    return same, list(nearly.values())


def _equal(examples: Examples, hashes: np.ndarray, how: str) -> Iterator[Pair]:
    order = np.lexsort((examples.split, hashes))
    starts = np.flatnonzero(np.diff(hashes[order]) != 0) + 1
    for group in np.split(order, starts):
        first = int(group[0])
        yield from (Pair(first, int(row), how) for row in group[1:] if examples.split[row] > examples.split[first])


def coarse(examples: Examples, frame: pd.DataFrame) -> float:
    """Return the share of the training rows that are like another one, but for the target."""
    hashes = row_hashes(frame.iloc[examples.of_split("train")]).sum(1)
    _, counts = np.unique(hashes, return_counts=True)
    return float(counts[counts > 1].sum() / len(hashes))


def leaking(frame: pd.DataFrame, target: np.ndarray, *, regression: bool, what: str = "the target") -> list[Finding]:
    """Return the columns that predict the target nearly perfectly, each by itself, on rows that were not fitted."""
    if len(frame) < FEW_ROWS or frame.shape[1] < 2:  # one column that explains all is then the task itself
        return []
    scores = {str(name): alone(frame[[name]], target, regression=regression) for name in frame.columns}
    measure = "R2" if regression else "balanced accuracy"
    return [
        Finding(
            f"column {name} alone {'gives' if score >= GIVEN_AWAY else 'nearly gives'} {what} away ({measure} "
            f"{score:.3f}): is it known when you predict? Else --columns.ignored {shlex.quote(name)}",
            wrong=score >= GIVEN_AWAY,
        )
        for name, score in sorted(scores.items(), key=lambda item: -item[1])
        if score >= NEARLY
    ]


def alone(column: pd.DataFrame, target: np.ndarray, *, regression: bool) -> float:
    """Return the best cross-validated score of cheap models that see one column.

    Trees take whatever there is, jumps and categories included; for numbers splines join them, since a tree, with its
    steps, falls short of what a column with a little noise gives away.
    """
    folds: Any = KFold(FOLDS, shuffle=True, random_state=0)
    if regression:
        target = target - target.mean()  # a tree adds up squares, in which a spread far from 0 drowns
    else:
        fewest = np.unique(target, return_counts=True)[1].min()
        folds = StratifiedKFold(int(min(FOLDS, max(2, fewest))), shuffle=True, random_state=0)
    tree: Any = DecisionTreeRegressor if regression else DecisionTreeClassifier
    if isinstance(column.dtypes.iloc[0], pd.CategoricalDtype):
        column = column.apply(lambda values: values.cat.codes)  # a tree tells them apart in whatever order
        smooth = False
    else:
        with np.errstate(all="ignore"):  # of what is not finite, or too great to be squared
            column = column.astype(float)
            spread = float(column.std().iloc[0])
        smooth = regression and spread > 0 and np.isfinite(spread)
    ranks = column.rank(method="dense")  # a tree looks at the order alone, and takes float32: 1.7e9 + 1 is 1.7e9 there
    tried: list[tuple[Any, pd.DataFrame]] = [(tree(min_samples_leaf=leaf, random_state=0), ranks) for leaf in (1, LEAF)]
    scales: list[Any] = [StandardScaler(), QuantileTransformer(output_distribution="normal")] if smooth else []
    for scale in scales:  # the second takes any scale, and outliers; the first loses less of the ends
        knots: Any = SplineTransformer(n_knots=10, knots="quantile", extrapolation="linear")
        missing = SimpleImputer(strategy="median", keep_empty_features=True)
        tried.append((make_pipeline(missing, scale, knots, Ridge(1e-3)), column))
    scoring = "r2" if regression else "balanced_accuracy"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes with one row, columns with one value: the score says it
        best = 0.0
        for model, values in tried:
            score = float(cross_val_score(model, values, target, cv=folds, scoring=scoring).mean())
            best = max(best, score)  # 0, too, where there is no score
            if best < HOPELESS:
                break
    return best


def odd_columns(frame: pd.DataFrame, seen: Sequence[str]) -> list[Finding]:
    """Return columns that number the rows and columns that hardly ever change, among those that the model sees."""
    found = [Finding(note(name)) for name in numbering(frame, np.arange(len(frame)), seen)]
    for name in seen if len(frame) >= FEW_ROWS else ():
        shares = frame[name].value_counts(dropna=False, normalize=True)
        if shares.iloc[0] >= CONSTANT:
            most = "no value" if pd.isna(shares.index[0]) else shares.index[0]
            found.append(Finding(f"column {name} hardly ever changes: {shares.iloc[0]:.1%} of the rows have {most}"))
    return found
