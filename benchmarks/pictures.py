"""Pictures to measure speeds with: JPEGs of a photograph's size, drawn, and the tutorials' way of reading them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from src.datamodules.synthetic.images import draw

SIZE = 400
"""Side in pixels; the photographs of Dogs-vs-Cats are about 400 by 360."""
DRAWN = 48
"""Different pictures of each class: the others are links to their files, which take as long to read and decode."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def photographs(root: Path, **counts: int) -> Path:
    """Write root/{split}/{cat,dog}/, so many JPEGs a split, and return `root`."""
    drawn = root.with_name("drawn")
    drawn.mkdir(parents=True)
    kinds: tuple[Literal["cat", "dog"], ...] = ("cat", "dog")
    for kind in kinds:
        for i in range(DRAWN):
            picture = draw(kind, np.random.default_rng([i, kind == "dog"]), SIZE)
            picture.save(drawn / f"{kind}{i}.jpg", quality=90)
    for split, count in counts.items():
        for kind in kinds:
            folder = root / split / kind
            folder.mkdir(parents=True)
            for i in range(count // 2):
                os.link(drawn / f"{kind}{i % DRAWN}.jpg", folder / f"{i:05d}.jpg")
    return root


def tutorial_transform(*, train: bool) -> transforms.Compose:
    """Return the steps of https://pytorch.org/tutorials/beginner/transfer_learning_tutorial.html."""
    changes = (
        [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip()]
        if train
        else [transforms.Resize(256), transforms.CenterCrop(224)]
    )
    return transforms.Compose([*changes, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])


def tutorial_loader(folder: Path, *, train: bool, batch_size: int = 4, workers: int = 4) -> DataLoader:
    """Return the same tutorial's loader."""
    data = ImageFolder(str(folder), tutorial_transform(train=train))
    return DataLoader(data, batch_size=batch_size, shuffle=train, num_workers=workers)
