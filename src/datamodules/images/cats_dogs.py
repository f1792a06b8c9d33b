"""Cats or dogs: the user's photographs, else the Oxford-IIIT Pet data set, else synthetic images; and rare dogs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
from torchvision.datasets import OxfordIIITPet

from src.datamodules.images.chosen import Chosen
from src.datamodules.images.class_folders import scan
from src.datamodules.images.image_folder import ImageFolder
from src.datamodules.images.listing import Listing
from src.datamodules.sources import LoadedSplits
from src.datamodules.splits import SPLIT_SEED, VAL_SHARE
from src.datamodules.synthetic import images
from src.datamodules.targets import Targets
from src.resources.cache import cache_dir
from src.resources.network import download_once, reachable


class CatsDogs(ImageFolder):
    """Images of cats and dogs; arguments as for `ImageFiles`.

    Sources in order: 'folder' (`data/cats_dogs`), 'oxford-pet' (a download of 0.8 GB; Parkhi et al. 2012,
    https://www.robots.ox.ac.uk/~vgg/data/pets/), 'drawn'.
    """

    folder_name = "cats_dogs"
    CLASSES: ClassVar = ("cat", "dog")

    def sources(self) -> dict[str, Callable[[], LoadedSplits[Chosen] | None]]:
        return {"folder": self.from_folder, "oxford-pet": self.from_oxford_pet, "drawn": self.from_drawn}

    def from_oxford_pet(self) -> LoadedSplits[Chosen] | None:
        """Return Oxford-IIIT Pet by kind of animal; its official test split stays the test split."""
        root = cache_dir()
        folder = root / "oxford-iiit-pet"
        if not folder.exists() and not reachable(OxfordIIITPet._RESOURCES[0][0]):
            return None
        download_once(
            folder,
            "Oxford-IIIT Pet",
            lambda to: Path(OxfordIIITPet(to, download=True)._base_folder),
            detail=", 0.8 GB,",
            source="oxford-pet",
            instead="or take --source drawn",
        )
        pets = [OxfordIIITPet(root, split=split, target_types="binary-category") for split in ("trainval", "test")]
        kinds = {file: kind for part in pets for file, kind in zip(part._images, part._bin_labels, strict=True)}
        row = {file: number for number, file in enumerate(sorted(kinds))}
        files = Listing(pets[0]._images_folder, [file.name for file in row])
        targets = Targets("single_label", "", [self.CLASSES[kinds[file]] for file in row])
        trainval, test = (Chosen(files, targets, np.array([row[file] for file in part._images])) for part in pets)
        parts = trainval.divided({"val": VAL_SHARE}, f"--data-dir {root}")
        how = f"official test, val {VAL_SHARE:.0%} of trainval by class, seed {SPLIT_SEED}"
        return LoadedSplits("Oxford-IIIT Pet", how, parts | {"test": test})


class RareDogs(ImageFolder):
    """Twenty cats for each dog, in every split; arguments as for `ImageFiles`.

    Sources in order: 'folder' (`data/rare_dogs`), 'drawn' (64 pixels).
    """

    folder_name = "rare_dogs"
    SIZES: ClassVar = {"train": 1680, "val": 840, "test": 2100}

    def from_drawn(self) -> LoadedSplits[Chosen]:
        """Return cats and a few dogs drawn on the spot: here they are the data, and no stand-in."""
        root = images.cache_folder("rare_dogs", 64)
        images.draw_folder(root, **self.SIZES, seed=1, rare=21, size=64)
        return LoadedSplits("drawn cats and dogs, 20 to 1", "as drawn", scan(root)[0])
