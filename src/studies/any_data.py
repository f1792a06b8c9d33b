"""What a user's file or folder holds: images, texts or rows, and what is to be predicted of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
from torchvision.datasets.folder import IMG_EXTENSIONS

from src.configs.errors import InputError
from src.configs.labels import LABEL_SEPARATOR, is_number, split_labels
from src.configs.spec import TargetKind
from src.datamodules.headers import SUFFIXES, require_column, typed
from src.datamodules.ids import id_column
from src.datamodules.sources import split_files
from src.datamodules.tables.cells import words
from src.datamodules.tables.table_files import read
from src.datamodules.targets import FEW_NUMBERS

InputKind = Literal["image", "text", "table"]
USUAL_TARGETS = ("target", "label", "labels", "class")
LOOKED_AT = 1000
"""Rows that tell what a column holds."""
WORDS_OF_TEXT = 4.0
"""Mean number of words from which cells are texts."""


@dataclass(frozen=True)
class AnyData:
    """Data, as an experiment takes them."""

    path: Path
    input: InputKind
    predicts: TargetKind
    target: tuple[str, ...] = ()
    """Columns to predict; () for class folders of images."""
    column: str = ""
    """Of the texts, or of the images' paths."""
    reasons: tuple[str, ...] = ()
    """Why it was taken so, a line each."""


def look_at(
    path: Path,
    target: Sequence[str] = (),
    *,
    input: InputKind | None = None,
    predicts: TargetKind | None = None,
    column: str = "",
) -> AnyData:
    """Return what a file or folder holds.

    Args:
        path: a table (CSV, JSON lines, Parquet), a folder of train and maybe val and test tables, or class folders of
            images.
        target: columns to predict; several are labels. None: the one that is called target, label, labels or class.
        input: what the inputs are, where the user says so.
        predicts: what the target is, where the user says so.
        column: of the texts, or of the paths of images, where the user says so.

    Raises:
        InputError: there is no such file, or it does not tell what is to be predicted.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder.")
    if path.is_dir() and not any(file.suffix.lower() in SUFFIXES for file in path.iterdir()):
        return _class_folders(path, target, input, predicts)
    table = read(split_files(path, [])["train"])
    names = _targets(table, path, target)
    found, why = (predicts, "as asked for") if predicts else kind_of_target(table, names)
    reasons = [f"{', '.join(names)}: {why}: {found}"]
    rest = [name for name in table.column_names if name not in names and name != id_column(table.column_names)]
    given, place, why = _input(table.select(rest), path.parent if path.is_file() else path)
    if column:
        require_column(table.column_names, column, "--column", f" in {path}")
        given, place, why = "image" if given == "image" else "text", column, "as asked for"
    if input is not None and input != given:
        given, place, why = input, column or column_for(table.select(rest), input), "as asked for"
    return AnyData(path, given, found, names, place, (*reasons, f"{place or 'columns'}: {why}: {given}"))


def _class_folders(path: Path, target: Sequence[str], input: InputKind | None, predicts: TargetKind | None) -> AnyData:
    if target:
        raise InputError(f"--target {' '.join(target)}: {path} holds class folders, whose names are the classes.")
    for flag, given, known in (("input", input, "image"), ("predicts", predicts, "single_label")):
        if given not in (None, known):
            raise InputError(f"--{flag} {given}: {path} holds no table. Class folders of images have {known}.")
    if not any(file.suffix.lower() in IMG_EXTENSIONS for file in path.rglob("*")):
        raise InputError(f"{path}: neither a table ({', '.join(SUFFIXES)}) nor images in it.")
    return AnyData(path, "image", "single_label", reasons=("class folders of images",))


def _targets(table: pa.Table, path: Path, target: Sequence[str]) -> tuple[str, ...]:
    names = tuple(map(typed, target))
    for name in names:
        require_column(table.column_names, name, "--target", f" in {path}")
    if names:
        return names
    usual = [name for name in table.column_names if name.lower() in USUAL_TARGETS]
    if len(usual) != 1:
        raise InputError(f"--target: name the column to predict. There: {', '.join(table.column_names[:20])}.")
    return (usual[0],)


def kind_of_target(table: pa.Table, names: Sequence[str]) -> tuple[TargetKind, str]:
    """Return what a target is by its cells, and why."""
    if len(names) > 1:
        return "multi_label", "a column a label"
    cells = [cell for cell in words(table[names[0]]) if cell]
    distinct = set(cells)
    if cells and all(map(is_number, distinct)):
        whole = all(float(cell).is_integer() for cell in distinct)
        if len(distinct) > FEW_NUMBERS or not whole:
            return "regression", f"{len(distinct)} distinct numbers"
        return "single_label", f"{len(distinct)} whole numbers"
    joined = [cell for cell in distinct if LABEL_SEPARATOR in cell]
    parts = Counter(part for cell in distinct for part in split_labels(cell))
    if joined and any(parts[part] > 1 for cell in joined for part in split_labels(cell)):
        return "multi_label", f"cells such as {joined[0]!r}"
    return "single_label", f"{len(distinct)} distinct words"


def _input(table: pa.Table, folder: Path) -> tuple[InputKind, str, str]:
    """Return what the inputs are, the column they are in, and why."""
    heads = {name: [cell for cell in words(table[name].slice(0, LOOKED_AT)) if cell] for name in table.column_names}
    for name, cells in heads.items():
        images = [cell for cell in cells if cell.lower().endswith(IMG_EXTENSIONS)]
        if len(images) > len(cells) / 2 and (folder / images[0]).is_file():
            return "image", name, "paths of images"
    lengths = {name: _words_of(cells) for name, cells in heads.items()}
    texts = [name for name, length in lengths.items() if length >= WORDS_OF_TEXT]
    if len(texts) == 1 and len(lengths) <= 2:
        return "text", texts[0], f"{lengths[texts[0]]:.0f} words a cell"
    why = f"{len(lengths)} of them"
    return "table", "", why + (f", {' and '.join(texts)} with texts that are read as categories" if texts else "")


def _words_of(cells: Sequence[str]) -> float:
    """Return the mean number of words; 0 where most cells are the same few, which are categories."""
    if len(set(cells)) <= max(len(cells) / 2, 1):
        return 0.0
    return sum(len(cell.split()) for cell in cells) / len(cells)


def column_for(table: pa.Table, input: InputKind) -> str:
    """Return the column with the most words for texts, the one of paths for images, '' for rows."""
    heads = {name: words(table[name].slice(0, LOOKED_AT)) for name in table.column_names}
    if input == "table":
        return ""
    if input == "text":
        return max(heads, key=lambda name: _words_of(heads[name]))
    paths = [name for name, cells in heads.items() if any(cell.lower().endswith(IMG_EXTENSIONS) for cell in cells)]
    if not paths:
        raise InputError("--input image: no column holds paths of images.")
    return paths[0]
