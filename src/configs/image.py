"""Values of image experiments."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from src.configs.errors import InputError

Views = Literal["one", "mirrored", "shifted"]


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Random changes of a training image, by torchvision's v2 transforms; drawn anew from (seed, epoch, image), or,
    where images of a batch are mixed, from (seed, epoch, step, process).
    """

    crop: tuple[float, float] = (0.6, 1.0)
    """Least and greatest share of the area that a random resized crop keeps; 1 1 crops nothing."""
    flip: bool = True
    """Mirror left to right, every second image."""
    rotation: float = 0.0
    """Turn by up to so many degrees either way."""
    colour: float = 0.0
    """Change brightness, contrast and saturation by up to this share."""
    randaugment: tuple[int, int] = (0, 9)
    """RandAugment: how many operations, and how strong of 30 (Cubuk et al. 2020, arXiv 1909.13719: 2 9)."""
    erasing: float = 0.0
    """Share of the images in which a rectangle is made grey (Zhong et al. 2020, arXiv 1708.04896: 0.5)."""
    mixup: float = 0.0
    """Blend each image and its target with another's, by shares of Beta(mixup, mixup); 0 does not (Zhang et al. 2018,
    arXiv 1710.09412: 0.2)."""
    cutmix: float = 0.0
    """Put a rectangle of another image into each, of an area of Beta(cutmix, cutmix) (Yun et al. 2019, arXiv
    1905.04899: 1). With both, a batch has either at even odds."""

    def __post_init__(self) -> None:
        if not 0 < self.crop[0] <= self.crop[1] <= 1:
            raise InputError(
                f"--augment.crop {self.crop[0]} {self.crop[1]}: two shares with 0 < least <= greatest <= 1."
            )
        for name in ("rotation", "colour", "mixup", "cutmix"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"--augment.{name} {getattr(self, name)}: a number from 0 on.")
        operations, strength = self.randaugment
        if operations < 0 or not 0 <= strength <= 30:
            raise InputError(f"--augment.randaugment {operations} {strength}: so many operations, and from 0 to 30.")
        if not 0 <= self.erasing <= 1:
            raise InputError(f"--augment.erasing {self.erasing}: a share from 0 to 1.")
