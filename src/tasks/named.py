"""The common combinations of an objective and an input, under the names that people look for."""

from __future__ import annotations

from torch import nn

from src.configs.image import Augment, Views
from src.configs.optim import Optim
from src.configs.spec import DataSpec
from src.tasks.inputs import ImageInput, TableInput, TextInput
from src.tasks.objectives import Regression as RegressionObjective
from src.tasks.objectives import SingleLabel
from src.tasks.objectives.regression import Loss
from src.tasks.task import CachedFeatures, Task


class ImageClassification(Task):
    """Images -> one class. Arguments as for `Task`, `SingleLabel` and `ImageInput`."""

    def __init__(
        self,
        network: nn.Module,
        spec: DataSpec,
        optim: Optim,
        *,
        label_smoothing: float = 0.0,
        cached_features: CachedFeatures = "no",
        channels_last: bool = True,
        augment: Augment | None = None,
        start_size: float = 1.0,
        views: Views = "one",
    ) -> None:
        objective = SingleLabel(spec, label_smoothing=label_smoothing)
        images = ImageInput(spec, channels_last=channels_last, augment=augment, start_size=start_size, views=views)
        super().__init__(network, objective, images, optim, cached_features=cached_features)


class TextClassification(Task):
    """Texts -> one class. Arguments as for `Task` and `SingleLabel`."""

    def __init__(
        self,
        network: nn.Module,
        spec: DataSpec,
        optim: Optim,
        *,
        label_smoothing: float = 0.0,
        cached_features: CachedFeatures = "no",
    ) -> None:
        objective = SingleLabel(spec, label_smoothing=label_smoothing)
        super().__init__(network, objective, TextInput(), optim, cached_features=cached_features)


class TabularClassification(Task):
    """Rows of a table -> one class. Arguments as for `Task` and `SingleLabel`."""

    def __init__(
        self,
        network: nn.Module,
        spec: DataSpec,
        optim: Optim,
        *,
        label_smoothing: float = 0.0,
        cached_features: CachedFeatures = "no",
    ) -> None:
        objective = SingleLabel(spec, label_smoothing=label_smoothing)
        super().__init__(network, objective, TableInput(), optim, cached_features=cached_features)


class Regression(Task):
    """Rows of a table -> a number. Arguments as for `Task` and `objectives.Regression`."""

    def __init__(
        self,
        network: nn.Module,
        spec: DataSpec,
        optim: Optim,
        *,
        loss: Loss = "mse",
        interval: float = 0.9,
        cached_features: CachedFeatures = "no",
    ) -> None:
        objective = RegressionObjective(spec, loss=loss, interval=interval)
        super().__init__(network, objective, TableInput(), optim, cached_features=cached_features)
