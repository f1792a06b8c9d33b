"""Images to predict: decoded, fitted to a square, their middle taken; as for training, but without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from src.configs.errors import InputError
from src.configs.table import Csv
from src.datamodules import preparation
from src.datamodules.headers import is_table
from src.datamodules.images.decoding import UNREADABLE, decode, why_unreadable
from src.datamodules.images.given import GivenImage, given_images
from src.datamodules.preparation import Arrays, PredictionInput
from src.resources.files import printable

LUMA = (19595, 38470, 7471)
"""Red, green and blue in grey, in 65 536ths: those of ITU-R 601-2, which Pillow takes too."""


@dataclass(frozen=True, kw_only=True)
class ImagePreparation:
    """What becomes of an image before the network sees it."""

    kind: ClassVar[str] = "image"

    stored_size: int
    """Side of the square that the shorter side of an image is fitted to."""
    image_size: int
    """Side of its middle, which the network sees."""
    csv: Csv
    """How the cells of a table of images are written, where that is not to be found out."""
    grey: bool = False
    """One channel, not three."""
    path_column: str = "path"
    """Of a table that names images."""
    target: str = ""
    """Column of the target in such a table."""
    classes: tuple[str, ...] = ()
    """Labels that may have a column each in its place."""

    def read(self, inputs: Sequence[PredictionInput], notes: list[str]) -> PreparedImages:
        given = [Path(one) if isinstance(one, str) else one for one in inputs]
        if any(map(is_table, given)):
            return self._of_tables(given, notes)
        images, ids = given_images(given, notes)
        return PreparedImages(self, images, ids)

    def _of_tables(self, tables: Sequence[object], notes: list[str]) -> PreparedImages:
        """Return the images that tables name, with their paths as written for ids."""
        from src.datamodules.images.path_table import PathTable, read_path_table
        from src.datamodules.tables.table_targets import expected_targets

        found = list[PathTable]()
        for path in tables:
            if not (isinstance(path, Path) and is_table(path)):
                raise InputError(f"{path}: not a table, while others are. Predict tables and images apart.")
            found.append(read_path_table(path, self.path_column, self.csv, notes))
        expected = [
            target
            for table in found
            for target in expected_targets(table.table, self.target, self.classes) or [""] * len(table.table)
        ]
        images = [image for table in found for image in table.files]
        ids = [printable(name) for table in found for name in table.files.names]
        return PreparedImages(self, images, ids, self.path_column, expected)

    def save(self, folder: Path) -> None:
        preparation.save_fields(self, folder)

    @classmethod
    def load(cls, folder: Path) -> ImagePreparation:
        return preparation.load_fields(cls, folder)


@dataclass(frozen=True, eq=False)
class PreparedImages:
    """Images to predict, decoded when asked for."""

    how: ImagePreparation
    images: Sequence[GivenImage]
    ids: Sequence[str]
    id_name: str = "id"
    expected: Sequence[str] = ()
    lengths: None = None

    def __len__(self) -> int:
        return len(self.images)

    def arrays(self, keys: Sequence[int]) -> Arrays:
        """Return 'image', uint8 [images, channels, image_size, image_size], channels last in memory."""
        decoded, index, errors = list[np.ndarray](), list[int](), dict[int, str]()
        for key in keys:
            try:
                decoded.append(decode(self.images[key], self.how.stored_size))
                index.append(key)
            except UNREADABLE as error:
                errors[key] = why_unreadable(error)
        side = self.how.stored_size
        pixels = np.stack(decoded) if decoded else np.empty((0, side, side, 3), np.uint8)
        edge, size = (side - self.how.image_size) // 2, self.how.image_size
        pixels = pixels[:, edge : edge + size, edge : edge + size]
        if self.how.grey:
            pixels = ((pixels @ np.array(LUMA) + 2**15) >> 16).astype(np.uint8)[..., None]
        return Arrays(index, {"image": pixels.transpose(0, 3, 1, 2)}, errors)
