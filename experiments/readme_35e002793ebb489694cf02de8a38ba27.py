"""Cats or dogs with a focal loss, on images sharpened before the network sees them."""

from __future__ import annotations

from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from experiments.cats_dogs_finetune import CatsDogsScratch
from src import datamodules, tasks
from src.experiment import DataSpec


class Sharpened(datamodules.CatsDogs):
    """Sharpens whole batches, on the device."""

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        return batch | {"image": transforms.adjust_sharpness(batch["image"], 2.0)}


class Focal(tasks.SingleLabel):
    """Weighs down what is easy (Lin et al. 2017, https://arxiv.org/abs/1708.02002, eq. 4)."""

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        log_p = outputs.log_softmax(-1).gather(1, target[:, None]).squeeze(1)
        return -((1 - log_p.exp()) ** 2 * log_p).mean()


class CatsDogsFocal(CatsDogsScratch):
    """A small CNN with both."""

    def datamodule(self) -> datamodules.CatsDogs:
        return self.folder(Sharpened)

    def objective(self, spec: DataSpec) -> Focal:
        return Focal(spec, label_smoothing=self.label_smoothing)


DEFAULT = CatsDogsFocal
