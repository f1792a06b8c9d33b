"""Worked examples: a few raw validation examples beside the answers of PyTorch, so that anyone can check an export."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from src.configs.errors import InputError
from src.datamodules.preparation import read_json
from src.datamodules.tables.cells import words
from src.datamodules.tables.table_files import from_frame
from src.inference.exported import Exported
from src.resources.files import write_json

if TYPE_CHECKING:  # the server checks worked examples where there is no torch
    from src.deploy.parity import Reference
    from src.deploy.parts import Examples, Parts

FOLDER, FILE = "examples", "examples.json"


def write_examples(parts: Parts, examples: Examples, expected: Reference, count: int, folder: Path) -> int:
    """Write some examples, at even distances, with what PyTorch says of them; return how many."""
    rows = np.unique(np.linspace(0, len(examples) - 1, min(count, len(examples))).astype(int)).tolist() if count else []
    (folder / FOLDER).mkdir()
    raw = _raw(examples, rows, folder / FOLDER)
    values = {name: array[rows] for name, array in expected.values.items()}
    answers = [{name: array[row].tolist() for name, array in values.items()} for row in range(len(rows))]
    worked = [{"input": one, "outputs": answer} for one, answer in zip(raw, answers, strict=True)]
    write_json(folder / FOLDER / FILE, {"examples": worked})
    return len(worked)


def _raw(examples: Examples, rows: list[int], folder: Path) -> list[Any]:
    """Return examples as JSON has them; images become files."""
    first = examples.raw[0]
    if isinstance(first, pd.DataFrame):
        table = from_frame(first.iloc[rows])
        columns = {name: words(table[name]) for name in table.column_names}
        return [{name: cells[row] for name, cells in columns.items()} for row in range(len(rows))]
    given: list[Any] = []
    for number, row in enumerate(rows):
        one = examples.raw[row]
        if isinstance(one, Path):
            name = f"{number}{one.suffix.lower()}"
            shutil.copyfile(one, folder / name)
        elif isinstance(one, np.ndarray):
            name = f"{number}.png"
            Image.fromarray(one).save(folder / name)
        else:
            name = str(one)
        given.append(name)
    return given


def close(answer: Any, expected: Any, bound: float) -> bool:
    """Return whether two values of JSON, numbers or lists of them, are as near as a bound, relative to large ones."""
    if isinstance(expected, list):
        return len(answer) == len(expected) and all(close(a, b, bound) for a, b in zip(answer, expected, strict=True))
    return math.isclose(answer, expected, rel_tol=bound, abs_tol=bound)


def require_worked(exported: Exported) -> int:
    """Let an export answer its own worked examples; return how many there are.

    Raises:
        InputError: an answer is not the certified one, or an example is no file of the export.
    """
    folder = exported.folder / FOLDER
    examples = read_json(folder / FILE)["examples"] if (folder / FILE).is_file() else []
    if len(examples) != (count := exported.certificate.get("worked_examples")):
        raise InputError(f"{folder / FILE}: {len(examples)} examples, {count} are certified. Export the run again.")
    given = [one["input"] for one in examples]
    certified = exported.certificate["files"]
    if exported.kind == "image" and (other := [one for one in given if str(Path(FOLDER, one)) not in certified]):
        raise InputError(f"{folder / FILE}: {other[0]} is no file of this export. Export the run again.")
    inputs = [(folder / name).read_bytes() for name in given] if exported.kind == "image" else given
    values, errors = exported.outputs(exported.read(inputs, [])) if inputs else ({}, [])
    bound = exported.certificate["parity"]["bound"]
    for number, one in enumerate(examples):
        wrong = [
            name for name, value in one["outputs"].items() if not close(values[name][number].tolist(), value, bound)
        ]
        if errors[number] or wrong:
            raise InputError(
                f"{folder / FILE}: example {number} does not come out as certified on this machine "
                f"({errors[number] or ', '.join(wrong)}). Export the run again here, and look at its certificate."
            )
    return len(examples)
