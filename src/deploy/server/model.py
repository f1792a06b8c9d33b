"""The model that is served: what goes in, what comes out, and how an answer is written."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from src.configs.labels import split_labels
from src.datamodules.images.decoding import one_scan
from src.datamodules.preparation import PredictionInput, read_json
from src.datamodules.tables.preparation import TablePreparation
from src.deploy import worked
from src.inference.exported import AT_ONCE, ROWS_AT_ONCE, Exported, Outputs, load
from src.inference.predictions import DIGITS

MAX_PIXELS = 50_000_000
"""Pixels that an image may have whose decoder holds them all: 150 MB. A plain JPEG is scaled while decoded."""
IMAGES_AT_ONCE = 4
"""Images gain little from company, and each waits for the whole batch."""
Answer = dict[str, Any]


class Item(NamedTuple):
    """One input of a request."""

    raw: PredictionInput
    """What `Exported.read` takes; nothing where there is an error."""
    error: str = ""
    """Why it is not computed."""
    ignored: tuple[str, ...] = ()
    """Fields that the model does not see."""


@dataclass(frozen=True, eq=False)
class Model:
    """An export, its name, and how its inputs and answers are called."""

    exported: Exported
    name: str
    proved: int
    """How many worked examples came out as certified."""

    @property
    def kind(self) -> str:
        return self.exported.kind

    @property
    def classes(self) -> tuple[str, ...]:
        return self.exported.answers.spec.classes

    @property
    def at_once(self) -> int:
        """Most inputs of a batch."""
        return {"image": IMAGES_AT_ONCE, "text": AT_ONCE}.get(self.kind, ROWS_AT_ONCE)

    @cached_property
    def columns(self) -> dict[str, dict[str, Any]]:
        """Column of a table that the model sees -> its kind and, for a category, the values of the training."""
        columns: dict[str, dict[str, Any]] = {}
        for how in self.exported.preparations:
            if isinstance(how, TablePreparation):
                values = dict(zip(how.encoder.categories, how.encoder.values, strict=True))
                for column in how.encoder.columns:
                    there = {"values": list(values[column.name])} if column.name in values else {}
                    columns.setdefault(column.name, {"kind": column.kind} | there)
        return columns

    @cached_property
    def text_columns(self) -> tuple[str, ...]:
        """Names that a text may have in an object or a CSV: the column of the run, and `text`."""
        return tuple(dict.fromkeys((getattr(self.exported.preparations[0], "text_column", "text"), "text")))

    @cached_property
    def fields(self) -> dict[str, str]:
        """Name of an input in the Open Inference Protocol -> its datatype."""
        return dict.fromkeys(self.columns, "BYTES") or {self.kind: "BYTES"}

    @cached_property
    def example(self) -> Any:
        """A text or a row of the worked examples, None where there is none."""
        path = self.exported.folder / worked.FOLDER / worked.FILE
        examples = read_json(path)["examples"] if path.is_file() and self.kind != "image" else []
        return examples[0]["input"] if examples else None

    def item(self, raw: PredictionInput) -> Item:
        """Return an input of a request; one that cannot be computed, such as a row without a column, has its error."""
        match self.kind, raw:
            case "table", dict():
                return self._row(raw)
            case "image", bytes():
                return Item(raw, bomb(raw))
            case "text", str():
                return Item(raw, not_unicode(raw))
            case "text", dict() if named := [name for name in self.text_columns if isinstance(raw.get(name), str)]:
                return self.item(raw[named[0]])._replace(ignored=tuple(name for name in raw if name != named[0]))
            case _:
                return Item("", f"no {self.kind}: {self.wanted} is expected")

    @property
    def wanted(self) -> str:
        return {"image": "an image file", "text": 'a text, {"text": "..."}'}.get(self.kind, "an object, one row")

    def _row(self, row: dict[str, Any]) -> Item:
        columns = self.columns
        try:
            seen = {name: row[name] for name in columns}
        except KeyError:
            missing = [name for name in columns if name not in row]
            return Item(row, f"{len(missing)} of the {len(columns)} columns are missing: {', '.join(missing)}")
        for name, cell in seen.items():
            if not (cell is None or isinstance(cell, str)):
                return Item(row, f"{name}: a {type(cell).__name__}, but one value is expected")
            if cell and (why := not_unicode(cell)):
                return Item(row, f"{name}: {why}")
        ignored = () if len(row) == len(seen) else tuple(name for name in row if name not in columns)
        return Item(seen, ignored=ignored)

    def answers(self, outputs: Outputs) -> list[Answer]:
        """Return the answers to inputs: label, labels or prediction and its interval, probabilities; or the error."""
        values, decided = self.exported.decided(outputs.values)
        columns = self.exported.answers.columns(values, digits=DIGITS, decided=decided)
        classes = self.classes
        named = {name: columns[name] for name in ("label", "labels", "prediction", "lower", "upper") if name in columns}
        if "labels" in named:
            named["labels"] = [split_labels(cell) for cell in named["labels"]]
        shares = [[float(cell) for cell in columns[f"prob_{name}"]] for name in classes]
        answers: list[Answer] = []
        for row, why in enumerate(outputs.errors):
            numbers = [cells[row] for cells in shares]
            answer: Answer = {name: cells[row] for name, cells in named.items()}
            if not all(map(math.isfinite, numbers or [v for v in answer.values() if isinstance(v, float)])):
                why = why or "the model gives no finite number for this input"
            if classes:
                answer["probabilities"] = dict(zip(classes, numbers, strict=True))
            answers.append({"error": why} if why else answer)
        return answers


def open_model(folder: Path, *, threads: int) -> Model:
    """Return the model of an export that answers its worked examples as certified.

    Raises:
        InputError: it does not, or is no whole export.
    """
    exported = load(folder, threads=threads)
    name = exported.certificate["run"]["experiment"].rpartition(".")[2]
    return Model(exported, name, worked.require_worked(exported))


def not_unicode(text: str) -> str:
    """Return what is wrong with a text that JSON can spell but no file can hold, '' if nothing is."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "half of a surrogate pair, which is no character"
    return ""


def bomb(contents: bytes) -> str:
    """Return why an image is not decoded: it would take much memory. Others, unreadable ones too, are ''."""
    try:
        buffer = io.BytesIO(contents)
        with Image.open(buffer) as image:
            pixels = image.width * image.height
            if pixels <= MAX_PIXELS or (isinstance(image, JpegImageFile) and one_scan(buffer)):
                return ""
    except Exception:  # `decode` says what is wrong, and refuses what Pillow calls a bomb
        return ""
    return f"{pixels / 1e6:.0f} million pixels, more than {MAX_PIXELS / 1e6:.0f}. Send it smaller, or as a plain JPEG"
