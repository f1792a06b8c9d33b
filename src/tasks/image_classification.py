"""Classification of pictures."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2
from typing_extensions import override

from src.configs.errors import InputError
from src.configs.image import Augment, Views
from src.configs.optim import Optim
from src.configs.spec import DataSpec
from src.configs.training import Imbalance
from src.tasks.classification import Classification
from src.tasks.task import Batch

WHOLE_AT = 0.75
"""Share of the epochs after which growing pictures are whole."""
SHIFT = 1 / 16
"""Of the side, by which shifted views are."""
SIDES = (*range(1, 65), 96, 128, 160, 192, 224, 256, 288, 320, 384, 448)
"""Sides of pictures that are tried for a network that does not take those it is given."""


class ImageClassification(Classification):
    """Pictures 'image', uint8 [batch, channels, height, width] -> logits.

    Args:
        model, spec, optim, label_smoothing, cached_features: as for `Classification`.
        channels_last: keep the channels innermost in memory, which makes convolutions up to twice as fast.
        augment: how the pictures of a training batch are mixed; what happens to each alone is the data module's.
        start_size: side of the training pictures in the first epoch, as a share of the whole; it grows evenly and is
            whole for the last quarter of the epochs (progressive resizing; Howard 2018, fast.ai's DAWNBench).
        views: of each picture in validation, test and prediction, whose probabilities are averaged: the picture itself;
            and mirrored left to right; and both shifted by a sixteenth of the side into each corner.

    Raises:
        InputError: one of the last three with features that are kept for all of the training.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: DataSpec,
        optim: Optim,
        *,
        label_smoothing: float = 0.0,
        cached_features: Literal["no", "start", "probe"] = "no",
        channels_last: bool = True,
        augment: Augment | None = None,
        start_size: float = 1.0,
        views: Views = "one",
    ) -> None:
        super().__init__(model, spec, optim, label_smoothing=label_smoothing, cached_features=cached_features)
        self.memory_format: Any = torch.channels_last if channels_last else torch.contiguous_format
        self.model.to(memory_format=self.memory_format)
        self.augment, self.start_size = augment or Augment(), start_size
        self.views: Views = views
        asked = {"augment.mixup": self.augment.mixup, "augment.cutmix": self.augment.cutmix}
        asked |= {"start-size": start_size < 1, "views": views != "one"}
        if cached_features == "probe" and any(asked.values()):
            flag = next(name for name, wanted in asked.items() if wanted)
            raise InputError(f"--{flag}: this experiment trains on kept features, and sees no picture while it does.")
        mixes: list[Any] = [
            mix(alpha=alpha, num_classes=spec.num_classes)
            for mix, alpha in ((v2.MixUp, self.augment.mixup), (v2.CutMix, self.augment.cutmix))
            if alpha
        ]
        self.mix = v2.RandomChoice(mixes) if mixes else None

    @override
    def inputs(self, batch: Batch) -> tuple[Tensor]:
        """Return the pictures as floats in [0, 1], the whole batch at once and on its device."""
        images = batch["image"].to(self.dtype, copy=True).div_(255)
        return (images.contiguous(memory_format=self.memory_format),)

    @override
    def augmented(self, batch: Batch) -> Batch:
        if "features" in batch:
            return batch
        images = batch["image"]
        side = growing_side(images.shape[-1], self.start_size, self.current_epoch, self.trainer.max_epochs or 1)
        if side < images.shape[-1]:
            images = F.interpolate(images.float(), size=(side, side), mode="bilinear", antialias=True)
        if self.mix is None:
            return batch | {"image": images}
        images, target = self.mix(images.float(), batch["target"])
        return batch | {"image": images, "target": target}

    @override
    def forward(self, batch: Batch) -> Tensor:
        """Return the logits [batch, num_classes] of a batch; of several views the logarithm of their mean probability,
        of which the softmax is that mean.
        """
        if self.training or self.views == "one":
            return super().forward(batch)
        views = views_of(batch["image"], self.views)
        logits = torch.stack([Classification.forward(self, batch | {"image": view}) for view in views])
        return logits.float().log_softmax(-1).logsumexp(0) - math.log(len(views))

    @override
    def try_out(self, epochs: int) -> None:
        """Try the network on an empty picture of the training's least size: poolings leave nothing of a tiny one, and
        many transformers take one size only.

        Raises:
            InputError: the network does not take it, but another.
        """
        if len(self.spec.input_shape) != 3:
            return
        _, height, width = self.spec.input_shape
        first = growing_side(width, self.start_size, 0, epochs)
        if self._takes(*((first, first) if first < width else (height, width))):
            return
        sides = range(first + 1, width + 1) if first < width else SIDES
        least = next((side for side in sides if self._takes(side, side)), None)
        if least and first < width:
            raise InputError(
                f"--start-size {self.start_size:g}: pictures of {first} x {first} pixels are too small for the "
                f"network. At least {math.ceil(100 * least / width) / 100:g}."
            )
        if least:  # else it fails for another reason, which the training will say
            raise InputError(
                f"--image-size {width}: the network does not take pictures of that size. The least is {least}."
            )

    def _takes(self, height: int, width: int) -> bool:
        images = torch.zeros(1, self.spec.input_shape[0], height, width, dtype=torch.uint8)
        modes = {module: module.training for module in self.model.modules()}
        self.model.eval()
        try:
            with torch.no_grad():
                self.model(*self.inputs({"image": images}))
        except Exception:  # each network has its own kind
            return False
        finally:
            for module, training in modes.items():
                module.training = training
        return True

    @override
    def set_imbalance_strategy(self, imbalance: Imbalance) -> None:
        if imbalance == "focal" and self.mix is not None:
            raise InputError(
                "--imbalance focal: cannot be combined with --augment.mixup or --augment.cutmix, since a mixed picture "
                "has no one class. Choose weights, sampler or logit_adjust, or mix nothing."
            )
        super().set_imbalance_strategy(imbalance)


def growing_side(side: int, start: float, epoch: int, epochs: int) -> int:
    """Return the side of the training pictures in an epoch, counted from 0."""
    if epoch + 1 >= epochs:
        return side
    return max(1, round(side * min(1.0, start + (1 - start) * epoch / max(1.0, WHOLE_AT * epochs))))


def views_of(images: Tensor, views: Views) -> list[Tensor]:
    """Return the views of pictures [batch, channels, height, width], each of the same shape; borders are repeated."""
    found = [images]
    if views == "shifted":
        height, width = images.shape[-2:]
        by = max(1, round(SHIFT * height))
        padded = F.pad(images.float(), [by] * 4, mode="replicate").to(images.dtype)
        corners = [(top, left) for top in (0, 2 * by) for left in (0, 2 * by)]
        found += [padded[..., top : top + height, left : left + width] for top, left in corners]
    return found + [view.flip(-1) for view in found]
