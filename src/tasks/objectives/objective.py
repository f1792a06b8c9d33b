"""What every objective offers a task, an evaluation and a prediction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection

from src.answers import Answers, Predicted
from src.configs.errors import InputError
from src.configs.spec import DataSpec
from src.configs.training import Imbalance

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class Mistakes(NamedTuple):
    """The examples that were predicted worst, the worst first."""

    positions: np.ndarray
    titles: list[str]
    targets: np.ndarray
    """The class that was predicted, or the label that was decided worst, of each; 0 for a number."""


class Objective(Answers, nn.Module):
    """What is predicted. It turns a network's outputs into a loss, metrics, and the columns of predictions.

    A subclass is one kind of target. It knows neither what goes into the network nor the network.

    Args:
        spec: of the data; names the classes, or scales the number.
    """

    num_outputs: int
    """Outputs that the network must have for an example."""
    mixes_targets: bool = True
    """Whether the target of two blended examples is the blend of theirs, as MixUp needs it."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.spec = spec

    # ------------------------------------------------------------------------------------------------------- training
    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of outputs [batch, num_outputs] and targets [batch, ...]."""
        raise NotImplementedError

    def training_loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the loss that the training minimises: `loss`, or its variant for imbalanced classes."""
        return self.loss(outputs, target)

    def count(self, target: Tensor) -> int:
        """Return the number of terms that the loss is the mean of: examples here, tokens of a language model."""
        return len(target)

    def predictions(self, outputs: Tensor) -> dict[str, Tensor]:
        """Return what is predicted, each [batch, ...], from outputs [batch, num_outputs]."""
        raise NotImplementedError

    def mean_outputs(self, outputs: Tensor) -> Tensor:
        """Return the outputs [batch, num_outputs] of which the prediction is the mean of several views' predictions.

        Args:
            outputs: [views, batch, num_outputs].
        """
        raise NotImplementedError

    def set_imbalance_strategy(self, strategy: Imbalance) -> None:
        """Choose what the training loss does about rare classes.

        Raises:
            InputError: the objective has no classes, or cannot combine the strategy with its loss.
        """
        if strategy != "none":
            raise InputError(f"--imbalance {strategy}: {type(self).__name__} does not predict one class.")

    def solve_head(self, head: Any, train: Mapping[str, Tensor]) -> str:
        """Fit a head to cached features and return a line for the summary. Validation stays unseen.

        Args:
            head: has `fit` and `bias` as a `models.heads.Head` has.
            train: 'features' [examples, num_features] and 'target' [examples, ...].
        """
        raise InputError(f"{type(self).__name__} cannot solve a head on cached features. Set cached_features = 'no'.")

    # -------------------------------------------------------------------------------------------------------- metrics
    def train_metrics(self) -> MetricCollection:
        """Return the metrics of a training epoch; `update` counts in a batch."""
        return MetricCollection({})

    def metrics(self) -> MetricCollection:
        """Return the metrics of a validation or test, without a prefix."""
        raise NotImplementedError

    def update(self, metrics: MetricCollection, predicted: Mapping[str, Tensor], target: Tensor) -> None:
        """Count in the predictions of a batch."""
        raise NotImplementedError

    def score(self, predicted: Predicted, target: np.ndarray) -> dict[str, float]:
        """Return the metrics, without the loss, of predictions that are there already, such as an ensemble's."""
        metrics = of_one_process(self.metrics())
        self.update(
            metrics, {name: torch.from_numpy(values) for name, values in predicted.items()}, torch.from_numpy(target)
        )
        return {name: float(value) for name, value in metrics.compute().items()}

    # --------------------------------------------------------------------------------------- predictions as a table
    def target_column(self, target: np.ndarray) -> list[Any]:
        """Return the column 'target' of a CSV from targets [examples, ...]."""
        raise NotImplementedError

    def read(self, rows: pd.DataFrame) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return predictions and targets of a CSV with `columns` and `target_column`; all its cells are text."""
        raise NotImplementedError

    # --------------------------------------------------------------------------------------------------------- report
    def calibrate(self, predicted: Predicted, target: np.ndarray) -> dict[str, Any]:
        """Return what is chosen on a validation split and kept in the record, such as a temperature; {} for nothing."""
        return {}

    def judge(self, predicted: Predicted, target: np.ndarray, calibration: Mapping[str, Any]) -> dict[str, float]:
        """Return scores of a split before and after the calibration that another split chose."""
        return {}

    def calibrated(self, predicted: Predicted, calibration: Mapping[str, Any]) -> Predicted:
        """Return the predictions after the calibration."""
        return predicted

    def decide(
        self, predicted: Predicted, calibration: Mapping[str, Any], *, threshold: bool = False
    ) -> np.ndarray | None:
        """Return the decisions [examples, ...] that `columns` shows; None for the usual ones.

        Args:
            predicted: before the calibration.
            threshold: decide by the calibration's threshold, which there has to be.
        """
        return None

    def report(self, predicted: Predicted, target: np.ndarray) -> dict[str, Any]:
        """Return the figures of each class for the record; {} where there are no classes."""
        return {}

    def figures(
        self, predicted: Predicted, target: np.ndarray, calibration: Mapping[str, Any]
    ) -> Iterator[tuple[str, Figure]]:
        """Yield name and figure of what TensorBoard shows of an evaluation."""
        yield from ()

    def mistakes(
        self, predicted: Predicted, target: np.ndarray, count: int, calibration: Mapping[str, Any] | None = None
    ) -> Mistakes:
        """Return the `count` worst mistakes at most, decided as `decide` does by a calibration."""
        raise NotImplementedError


def of_one_process(metrics: MetricCollection) -> MetricCollection:
    """Return metrics that one process computes alone; else they would wait for the others of a run."""
    for metric in metrics.values():
        metric.distributed_available_fn = lambda: False
    return metrics
