"""Values of table experiments."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import Literal

from src.configs.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Kinds of a table's columns, where they are not to be inferred."""

    number: tuple[str, ...] = ()
    """Columns of numbers."""
    category: tuple[str, ...] = ()
    """Columns of categories, such as a zip code, however they are written."""
    date: tuple[str, ...] = ()
    """Columns of dates: the model sees year, month, day of the week and of the year, and the days passed."""
    ignored: tuple[str, ...] = ()
    """Columns that the model must not see."""
    group: str = ""
    """Rows with the same value here stay in one split and one fold; the model does not see it."""


@dataclass(frozen=True, kw_only=True)
class Csv:
    """How the cells of a table are written, where that is not to be found out from its rows."""

    decimal: Literal["auto", ".", ","] = "auto"
    """Decimal sign of the numbers."""
    dates: Literal["auto", "day-first", "month-first"] = "auto"
    """Which comes first in dates such as 01/02/2026."""
    missing: tuple[str, ...] = ()
    """Cells that count as missing in every column, as in "" NA. Without it: empty ones, and in numbers and dates NA,
    NULL and the like."""
    quoting: Literal["double", "none"] = "double"
    """double: quotes stand around fields with commas or line breaks. none: they are characters like any other."""
    encoding: str = "utf-8"
    """Of the file, such as cp1252 for one from Excel on Windows."""
    header: int = 0
    """Line of the column names, from 1. 0 finds it."""

    def __post_init__(self) -> None:
        if self.header < 0:
            raise InputError(f"--csv.header {self.header}: a line, from 1; 0 finds it.")
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            raise InputError(f"--csv.encoding {self.encoding}: unknown. Such as utf-8, cp1252 or latin-1.") from None


@dataclass(frozen=True, kw_only=True)
class TablePrep:
    """How a table's numbers are scaled; fitted on the training split alone."""

    numbers: Literal["standard", "quantile", "log", "none"] = "standard"
    """To mean 0 and deviation 1, as they are or after the signed logarithm; to a normal distribution; or not at all."""
    clip: float = 0.0
    """Cut numbers beyond this share of the training rows at either end, so that a network need not extrapolate."""
    target: Literal["standard", "log", "none"] = "standard"
    """The target of a regression; predictions and metrics are in the table's own units all the same."""

    def __post_init__(self) -> None:
        if not 0 <= self.clip < 0.5:
            raise InputError(f"--prep.clip {self.clip}: from 0 to below 0.5.")


@dataclass(frozen=True, kw_only=True)
class Perceptron:
    """A multilayer perceptron for tables."""

    width: int = 256
    """Of each hidden layer."""
    depth: int = 2
    """Hidden layers."""
    residual: bool = False
    """Each layer adds to what comes in, normalised (Gorishniy et al. 2021, arXiv 2106.11959, section 3.2)."""
    dropout: float = 0.1
    """After each hidden layer."""
    category_width: int = 8
    """Numbers that a category's value becomes, at the most."""
    bins: int = 0
    """Piecewise-linear encoding of each number in so many bins (Gorishniy et al. 2022, arXiv 2203.05556); 0: none."""
    bins_width: int = 16
    """Numbers that each binned number becomes."""

    def __post_init__(self) -> None:
        for name in ("width", "depth", "category_width", "bins_width"):
            if getattr(self, name) < 1:
                raise InputError(f"--mlp.{name.replace('_', '-')} {getattr(self, name)}: at least 1.")
        if not 0 <= self.dropout < 1:
            raise InputError(f"--mlp.dropout {self.dropout}: from 0 to below 1.")
        if self.bins < 0 or self.bins == 1:
            raise InputError(f"--mlp.bins {self.bins}: 0 for none, or at least 2.")


@dataclass(frozen=True, kw_only=True)
class Boosting:
    """How gradient-boosted trees grow; scikit-learn's own values. Where there are more than 10 000 training rows, it
    stops as soon as ten iterations gain nothing on a tenth of them, which is held out for that."""

    learning_rate: float = 0.1
    """Factor on what each tree adds."""
    iterations: int = 100
    """At most; each adds a tree, of several classes or labels one for each."""
    leaves: int = 31
    """Of a tree, at most."""
    min_leaf: int = 20
    """Rows of a leaf, at least."""
    l2: float = 0.0
    """Penalty on the values of leaves."""

    def __post_init__(self) -> None:
        for name, least in (("iterations", 1), ("leaves", 2), ("min_leaf", 1), ("l2", 0)):
            if getattr(self, name) < least:
                raise InputError(f"--boosting.{name.replace('_', '-')} {getattr(self, name)}: at least {least}.")
        if not self.learning_rate > 0:
            raise InputError(f"--boosting.learning-rate {self.learning_rate}: above 0.")
