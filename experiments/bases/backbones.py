"""The recipes of networks for images: a backbone that is fine-tuned or frozen, and a small one from scratch."""

from __future__ import annotations

from typing import Self

from experiments.bases.images import ImageClasses, ImageData
from src import models, tasks
from src.experiment import Augment, DataSpec, InputError, Optim, Search, choice, log, replace, uniform


class FineTuned(ImageData):
    """The recipe of the pretrained backbones.

    The frozen backbone runs once and the head is solved on its features; then the upper part is trained, with rates
    that fall towards the input. What was best on the validation split is kept, be it the solved head.
    """

    cached_features = "start"

    search = Search(
        {"optim.lr": log(1e-4, 1e-3), "optim.layer_decay": uniform(0.5, 0.9), "frozen": choice(0.5, 0.7, 0.9)},
        trials=20,
    )

    weights = "imagenet"
    max_epochs = 3
    patience = 2
    optim = Optim(lr=3e-4, weight_decay=0.05, layer_decay=0.7, warmup=0.1)

    backbone: str = "resnet50"
    """Any timm backbone."""
    offline_backbone: str = "tf_efficientnet_lite0"
    """Used where the weights of `backbone` are not available; its own come with a pip package."""
    frozen: float = 0.7
    """Share of the backbone's depth, from the input, that stays as it is."""
    dropout: float = 0.2
    """Dropout before the head."""
    drop_path: float = 0.0
    """Share of the last residual branch's results left out in training, less before it: stochastic depth."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.frozen <= 1:
            raise InputError(f"--frozen {self.frozen}: a share from 0 to 1.")

    def resolve(self) -> Self:
        return replace(self, backbone=models.available_backbone(self.backbone, self.offline_backbone, self.weights))

    def task(self, spec: DataSpec) -> tasks.Task:
        objective = self.objective(spec)
        return self.image_task(self.network(objective.num_outputs), objective, spec)

    def network(self, num_outputs: int) -> models.ResNet:
        """Return the backbone and its head."""
        return models.ResNet(
            self.backbone,
            num_outputs,
            weights=self.weights,
            frozen=self.frozen,
            fixed_norm=True,
            dropout=self.dropout,
            drop_path=self.drop_path,
        )


class Probed(FineTuned):
    """The recipe of a frozen backbone: a linear head is solved on its cached features, and trained on."""

    cached_features = "probe"

    search = Search({"optim.lr": log(1e-4, 1e-2), "optim.weight_decay": log(1e-2, 0.5)}, trials=20)

    max_epochs = 20
    patience = 5
    optim = Optim(lr=1e-3, weight_decay=0.05, warmup=0.1)


class SmallCNN(ImageClasses):
    """The recipe of a small CNN from random weights, on images of 64 pixels."""

    search = Search(
        {"optim.lr": log(1e-3, 1e-2), "optim.weight_decay": log(1e-2, 0.5), "augment.colour": uniform(0.0, 0.4)},
        trials=20,
    )

    image_size = 64
    max_epochs = 30
    augment = Augment(crop=(0.5, 1.0), colour=0.2)
    optim = Optim(lr=3e-3, weight_decay=0.05, warmup=0.1)

    def task(self, spec: DataSpec) -> tasks.Task:
        return self.image_task(models.CNN(spec.num_classes, weights=self.weights), self.objective(spec), spec)
