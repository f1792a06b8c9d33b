"""The recipe of the pretrained backbones."""

from __future__ import annotations

from typing import Self

from experiments.bases.images import ImageData
from src import models, tasks
from src.experiment import DataSpec, InputError, Optim, replace


class FineTuned(ImageData):
    """The recipe of the pretrained backbones.

    The frozen backbone runs once and the head is solved on its features; then the upper part is trained, with rates
    that fall towards the input. What was best on the validation split is kept, be it the solved head.
    """

    cached_features = "start"

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
