"""Any folder of images: root/{train,val,test}/{class}/ or root/{class}/, however many classes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from src.datamodules.images.chosen import Chosen
from src.datamodules.images.class_folders import scan
from src.datamodules.images.image_files import ImageFiles
from src.datamodules.sources import LoadedSplits, own_data
from src.datamodules.synthetic import images
from src.resources.files import printable


class ImageFolder(ImageFiles):
    """Images in class folders; arguments as `ImageFiles`.

    `data_dir` is the folder; None takes `data/<folder_name>` if that is there, else the next source: 'folder', 'drawn'.
    Without split folders the split is made by class with a fixed seed; without a validation split it is taken from
    train.
    """

    folder_name: ClassVar[str] = "images"
    """Folder below `data/` that is looked for without --data-dir."""

    def sources(self) -> dict[str, Callable[[], LoadedSplits[Chosen] | None]]:
        return {"folder": self.from_folder, "drawn": self.from_drawn}

    def from_folder(self) -> LoadedSplits[Chosen] | None:
        """Return the user's folder; None where none was named and `data/<folder_name>` is not there."""
        root = own_data(self.data_dir, self.folder_name)
        if root is None:
            return None
        samples, split, notes = scan(root)
        self.notes += notes
        ours = ("train", "val") if split.startswith("as given, but") else tuple(samples)  # what we have divided
        whole = None
        if split != "as given":
            whole = samples["train"].of(np.sort(np.concatenate([samples[name].rows for name in ours])))
        return LoadedSplits(f"folder {printable(root)}", split, samples, whole=whole)

    def from_drawn(self) -> LoadedSplits[Chosen] | None:
        """Return cats and dogs drawn on the spot, a stand-in for photographs."""
        root = images.cache_folder("cats_dogs")
        images.draw_folder(root)
        return LoadedSplits("drawn cats and dogs (NOT photographs)", "as drawn", scan(root)[0], fallback=True)

    def ids_of(self, names: Sequence[str], first: str, last: str) -> list[str]:
        """Return the names below the folder that all files have in common: that of the first and the last of them."""
        folder = os.path.commonpath([first, last])
        above = len(printable(folder)) + 1 if folder else 0
        return [printable(name)[above:] for name in names]
