"""Training examples that are nearly an input, told as the data check tells that an example is in two splits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from src.data_checks import Examples, images, survey, texts
from src.datamodules import DataModule
from src.explain.example import Example
from src.explain.images import ImageExample
from src.explain.texts import TextExample


def nearly_alike(datamodule: DataModule, example: Example, shown: Sequence[np.ndarray | str]) -> dict[int, str]:
    """Return those of some training examples that are nearly an input -> how: 'mirrored', '90% of the words'.

    Rows of a table are not compared.

    Args:
        datamodule: that the training examples are of.
        example: the input.
        shown: the training examples, images uint8 [height, width, 3] or texts.
    """
    count = len(shown)
    split, none = np.array([*[0] * count, 1]), np.zeros(count + 1)
    both = Examples(("train", "asked"), split, [""] * (count + 1), none, (), "regression")
    pairs = []
    if isinstance(example, ImageExample):
        pixels = [one for one in (*shown, example.as_bytes()) if isinstance(one, np.ndarray)]
        grey = [images.small(torch.from_numpy(one).permute(2, 0, 1)[None])[0] for one in pixels]
        if len(grey) == len(both):  # else the data show no images
            exact = survey.side(datamodule) <= survey.TINY
            pairs = images.repeated(both, np.concatenate(grey), exact=exact)
    elif isinstance(example, TextExample):
        pairs = texts.repeated(both, texts.in_words([*map(str, shown), " ".join(example.names)]))
    found: dict[int, str] = {}
    for pair in pairs:
        found.setdefault(pair.early, pair.how)
    return found
