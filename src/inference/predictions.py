"""What was predicted, as a table. It imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

DIGITS = 6
"""Significant digits of a predicted probability: a float32 has seven, and the last depends on the batch."""


class Predictions(NamedTuple):
    """What was predicted, a row an input, in their order."""

    id_name: str
    """Name of the column of ids: the input's own, or 'id'."""
    ids: Sequence[str]
    """Path of a file as it was given, the input's own id, or the 0-based row."""
    columns: dict[str, list[Any]]
    """Label and probabilities, or the number and its interval, as the objective names them."""
    errors: list[str]
    """Why an input has no prediction, '' where it has one."""
    notes: list[str]
    """What the user should know, and the score where the inputs came with labels."""

    def frame(self) -> pd.DataFrame:
        """Return the rows as a table; an input with an error has nothing else."""
        import pandas as pd

        columns: dict[str, Any] = {self.id_name: list(self.ids)}
        for name, values in self.columns.items():
            there = [None if why else value for value, why in zip(values, self.errors, strict=True)]
            columns[name] = there if name in ("label", "labels") else pd.to_numeric(pd.Series(there)).astype(float)
        return pd.DataFrame(columns | {"error": self.errors})
