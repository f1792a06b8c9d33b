"""The numbers of explanations as files: CSV of words and columns, NPZ of maps."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd

from src.explain.explanation import Explanations
from src.resources.files import atomic_write, printable


def write_numbers(explanations: Explanations, path_without_suffix: Path) -> list[Path]:
    """Write the numbers, whole or not at all, and return the files.

    Of texts and tables it is a CSV with a row for each word or column: id, target and answer, then the columns of
    `Explanation.table` and the unit of its attributions, '' where their order alone means something. Of images it is an
    NPZ: 'ids', 'targets' and 'answers' [images], and 'map_0', 'map_1', ..., float32 [height, width], in the same order,
    and 'unit'. It loads with `allow_pickle=False`.

    Args:
        explanations: of inputs of one kind.
        path_without_suffix: of the file to be; `.numbers.csv` or `.numbers.npz` is added, so
            that no table of the user's own beside a page is written over.
    """
    if not len(explanations):
        return []
    kind = explanations[0].kind
    path = path_without_suffix.with_name(f"{path_without_suffix.name}.numbers.{'npz' if kind == 'image' else 'csv'}")
    if kind == "image":
        atomic_write(path, _maps(explanations))
    else:
        atomic_write(path, _rows(explanations).to_csv(index=False, lineterminator="\n"))
    return [path]


def _rows(explanations: Explanations) -> pd.DataFrame:
    tables: list[pd.DataFrame] = []
    for each in explanations:
        table = each.table()
        table.insert(0, "answer", each.answer)
        table.insert(0, "target", each.target)
        table.insert(0, "id", printable(each.id))
        table["unit"] = explanations.unit
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _maps(explanations: Explanations) -> bytes:
    maps = {f"map_{place}": each.values.astype(np.float32) for place, each in enumerate(explanations)}
    file = io.BytesIO()
    np.savez_compressed(
        file,
        ids=np.array([printable(each.id) for each in explanations]),
        targets=np.array([each.target for each in explanations]),
        answers=np.array([each.answer for each in explanations], np.float64),
        unit=np.array(explanations.unit),
        **maps,  # pyright: ignore[reportArgumentType]
    )
    return file.getvalue()
