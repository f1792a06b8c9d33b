"""Raw inputs as arrays for a network: one code for training, prediction and serving. It imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, Self, TypeAlias

from src.configs.errors import InputError
from src.configs.jsonable import from_json, to_json
from src.resources.files import write_json

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from PIL import Image

PredictionInput: TypeAlias = "Path | str | bytes | Image.Image | np.ndarray | pd.DataFrame | Mapping[str, Any]"
"""What may be predicted: a file or a folder, a text, the contents of an image file, an image, a table, or a row."""
FILE = "preparation.json"


class Arrays(NamedTuple):
    """Some inputs as the network takes them."""

    keys: list[int]
    """Positions of the inputs that can be read."""
    values: dict[str, np.ndarray]
    """Name -> array [len(keys), ...]."""
    errors: dict[int, str]
    """Position of each other input -> why it cannot be read."""


class Prepared(Protocol):
    """Inputs that have been read, as far as they must be to be counted."""

    @property
    def ids(self) -> Sequence[str]:
        """Path of a file as given, the input's own id, or the 0-based row."""
        ...

    @property
    def id_name(self) -> str:
        """Name of the column of ids that came with the inputs, else 'id'."""
        ...

    @property
    def expected(self) -> Sequence[str]:
        """Targets that came with the inputs, '' where there is none; may be empty."""
        ...

    def __len__(self) -> int: ...

    @property
    def lengths(self) -> np.ndarray | None:
        """Length of each input where they differ, int64 [inputs]."""
        ...

    def arrays(self, keys: Sequence[int]) -> Arrays:
        """Return some of the inputs, by position, as arrays."""
        ...


class Preparation(Protocol):
    """What a run does to raw inputs before its network sees them."""

    kind: ClassVar[str]
    """image, text or table."""

    def read(self, inputs: Sequence[PredictionInput], notes: list[str]) -> Prepared:
        """Read inputs; what the user should know of them is added to `notes`.

        Args:
            inputs: files and folders; or PIL images, uint8 arrays [height, width, channels] and the contents of image
                files, texts, tables and rows. A string is a text where texts are expected, else a path.
            notes: see above.

        Raises:
            InputError: an input that is not there, is of another kind, or there is none.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write all that `load` needs to a folder."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; raise an InputError where that cannot be read."""
        ...


def save_fields(preparation: Any, folder: Path) -> None:
    """Write the fields of a dataclass that is a Preparation."""
    write_json(folder / FILE, {"kind": preparation.kind} | to_json(asdict(preparation)))


def load_fields(kind: Any, folder: Path) -> Any:
    """Read what `save_fields` wrote."""
    values = read_json(folder / FILE)
    return from_json(kind, {name: value for name, value in values.items() if name != "kind"})


def read_json(path: Path) -> dict[str, Any]:
    """Return the object of a JSON file that belongs to an export.

    Raises:
        InputError: it is not there, or damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path}: cannot be read ({why}). Export the run again.") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: no JSON object. Export the run again.")
    return found


def load(folder: Path) -> Preparation:
    """Return the preparation that was saved in a folder.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    match read_json(folder / FILE).get("kind"):
        case "image":
            from src.datamodules.images.preparation import ImagePreparation as Kind
        case "text":
            from src.datamodules.texts.preparation import TextPreparation as Kind
        case "table":
            from src.datamodules.tables.preparation import TablePreparation as Kind
        case other:
            raise InputError(f"{folder / FILE}: no kind of input {other!r} is known. Update this checkout.")
    return Kind.load(folder)
