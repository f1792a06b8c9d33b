"""CSV files of predictions."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any


def predictions_csv(
    ids: Sequence[str],
    columns: Mapping[str, Sequence[Any]],
    *,
    target: Sequence[Any] | None = None,
    errors: Sequence[str] | None = None,
    id_name: str = "id",
) -> str:
    """Return the CSV `id[,target],<columns>[,error]`. A row with an error has nothing else.

    Args:
        ids: of the examples.
        columns: what an objective's `columns` returns.
        target: the true classes, labels or numbers.
        errors: why an example has no prediction, '' where it has one.
        id_name: name of the column of ids.
    """
    names = [name.replace("\r", "\\r") for name in ids]  # csv does not quote it, and reads the end of a line
    table: dict[str, Sequence[Any]] = {id_name: names} | ({} if target is None else {"target": target}) | dict(columns)
    if errors is not None:
        for name, values in columns.items():
            table[name] = ["" if why else value for value, why in zip(values, errors, strict=True)]
        table["error"] = errors
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))
    return file.getvalue()
