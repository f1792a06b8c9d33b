"""Images."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2
from typing_extensions import override

from src.configs.errors import InputError
from src.configs.image import Augment, Views
from src.configs.spec import DataSpec
from src.tasks.inputs.input import Batch, Input

WHOLE_AT = 0.75
"""Share of the epochs after which progressive resizing has reached the whole image."""
SHIFT = 1 / 16
"""Share of the side by which shifted views are moved."""
SIDES = (*range(1, 65), 96, 128, 160, 192, 224, 256, 288, 320, 384, 448)
"""Sides of images that are tried for a network that does not take those it is given."""


class ImageInput(Input):
    """Images 'image', uint8 [batch, channels, height, width]; the network gets floats in [0, 1].

    Args:
        spec: has the shape of an image.
        channels_last: keep the channels innermost in memory, which makes convolutions up to twice as fast.
        augment: how the images of a training batch are blended; what happens to each alone is the data module's.
        start_size: side of the training images in the first epoch, as a share of the whole. It grows evenly and is
            whole for the last quarter of the epochs (progressive resizing; Howard 2018, fast.ai's DAWNBench).
        views: test-time augmentation. The image itself; and mirrored left to right; and both shifted by a sixteenth of
            the side into each corner.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        channels_last: bool = True,
        augment: Augment | None = None,
        start_size: float = 1.0,
        views: Views = "one",
    ) -> None:
        self.spec, self.augment, self.start_size = spec, augment or Augment(), start_size
        self.view_kind: Views = views
        self.resizes = start_size < 1
        self.memory_format: Any = torch.channels_last if channels_last else torch.contiguous_format
        mixes: list[Any] = [
            mix(alpha=alpha, num_classes=spec.num_classes)
            for mix, alpha in ((v2.MixUp, self.augment.mixup), (v2.CutMix, self.augment.cutmix))
            if alpha
        ]
        self.mix = v2.RandomChoice(mixes) if mixes else None

    @override
    def tensors(self, batch: Batch, dtype: torch.dtype) -> tuple[Tensor]:
        """Return the images as floats in [0, 1], the whole batch at once and on its device."""
        images = batch["image"].to(dtype, copy=True).div_(255)
        return (images.contiguous(memory_format=self.memory_format),)

    @override
    def adapt(self, network: nn.Module) -> None:
        network.to(memory_format=self.memory_format)  # pyright: ignore[reportCallIssue]

    @override
    def augmented(self, batch: Batch, *, epoch: int, epochs: int) -> Batch:
        images = batch["image"]
        side = training_side(images.shape[-1], self.start_size, epoch, epochs)
        if side < images.shape[-1]:
            images = F.interpolate(images.float(), size=(side, side), mode="bilinear", antialias=True)
        if self.mix is None:
            return {**batch, "image": images}
        images, target = self.mix(images.float(), batch["target"])
        return {**batch, "image": images, "target": target}

    @override
    def views(self, batch: Batch) -> list[Batch]:
        if self.view_kind == "one":
            return [batch]
        return [{**batch, "image": view} for view in views_of(batch["image"], self.view_kind)]

    @override
    def require_mixable(self, *, mixes_targets: bool, imbalance: str = "none") -> None:
        if self.mix is None:
            return
        flag = "--augment.mixup" if self.augment.mixup else "--augment.cutmix"
        if not mixes_targets:
            raise InputError(f"{flag}: blends the classes of two images, and this experiment predicts a number. Set 0.")
        if imbalance == "focal":
            raise InputError(
                "--imbalance focal: cannot be combined with --augment.mixup or --augment.cutmix, since a mixed image "
                "has no one class. Choose weights, sampler or logit_adjust, or mix nothing."
            )

    @override
    def require_raw_batches(self) -> None:
        wanted = {"augment.mixup": self.augment.mixup, "augment.cutmix": self.augment.cutmix}
        wanted |= {"start-size": self.start_size < 1, "views": self.view_kind != "one"}
        for flag in (flag for flag, there in wanted.items() if there):
            raise InputError(f"--{flag}: this experiment trains on cached features, and sees no image while it does.")

    @override
    def try_out(self, network: nn.Module, *, epochs: int, dtype: torch.dtype) -> None:
        """Try the network on an empty image of the training's least size. Poolings leave nothing of a tiny one, and
        many transformers take one size only.

        Raises:
            InputError: the network does not take it, but another.
        """
        if len(self.spec.input_shape) != 3:
            return
        _, height, width = self.spec.input_shape
        first = training_side(width, self.start_size, 0, epochs)
        if self._takes(network, *((first, first) if first < width else (height, width)), dtype):
            return
        sides = range(first + 1, width + 1) if first < width else SIDES
        least = next((side for side in sides if self._takes(network, side, side, dtype)), None)
        if least and first < width:
            raise InputError(
                f"--start-size {self.start_size:g}: images of {first} x {first} pixels are too small for the "
                f"network. At least {math.ceil(100 * least / width) / 100:g}."
            )
        if least:  # else it fails for another reason, which the training will say
            raise InputError(
                f"--image-size {width}: the network does not take images of that size. The least is {least}."
            )

    def _takes(self, network: nn.Module, height: int, width: int, dtype: torch.dtype) -> bool:
        images = torch.zeros(1, self.spec.input_shape[0], height, width, dtype=torch.uint8)
        modes = {module: module.training for module in network.modules()}
        network.eval()
        try:
            with torch.no_grad():
                network(*self.tensors({"image": images}, dtype))
        except Exception:  # each network has its own kind
            return False
        finally:
            for module, training in modes.items():
                module.training = training
        return True


def training_side(side: int, start: float, epoch: int, epochs: int) -> int:
    """Return the side of the training images in an epoch, counted from 0."""
    if epoch + 1 >= epochs:
        return side
    return max(1, round(side * min(1.0, start + (1 - start) * epoch / max(1.0, WHOLE_AT * epochs))))


def views_of(images: Tensor, views: Views) -> list[Tensor]:
    """Return the views of images [batch, channels, height, width], each of the same shape; borders are repeated."""
    found = [images]
    if views == "shifted":
        height, width = images.shape[-2:]
        by = max(1, round(SHIFT * height))
        padded = F.pad(images.float(), [by] * 4, mode="replicate").to(images.dtype)
        corners = [(top, left) for top in (0, 2 * by) for left in (0, 2 * by)]
        found += [padded[..., top : top + height, left : left + width] for top, left in corners]
    return found + [view.flip(-1) for view in found]
