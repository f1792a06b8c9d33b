"""One class an example: cross-entropy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.metrics import classification_report, confusion_matrix
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassF1Score,
    MulticlassPrecision,
)
from typing_extensions import override

from src.answers import Predicted, SingleLabelAnswers
from src.configs.errors import InputError
from src.configs.spec import DataSpec
from src.configs.training import Imbalance
from src.tasks.objectives import calibration as calibrating
from src.tasks.objectives.figures import MOST_NAMES, draw_confusion, draw_reliability
from src.tasks.objectives.imbalance import class_weights, imbalanced_loss, log_prior
from src.tasks.objectives.objective import Mistakes, Objective
from src.tasks.objectives.present import MeanAUROC, MeanRecall

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class SingleLabel(SingleLabelAnswers, Objective):
    """One class an example, by cross-entropy of logits [batch, num_classes] and classes [batch].

    It predicts 'prob' [batch, num_classes].

    Args:
        spec: names the classes and counts their training examples.
        label_smoothing: share of the target spread over all classes (Szegedy et al. 2016, section 7).

    Raises:
        InputError: no such share, or fewer than two classes.
    """

    imbalance: Imbalance = "none"
    """What the training loss does about rare classes; see `set_imbalance_strategy`."""
    class_counts: Tensor
    """Training examples of each class."""

    def __init__(self, spec: DataSpec, *, label_smoothing: float = 0.0) -> None:
        super().__init__(spec)
        if not 0 <= label_smoothing < 1:
            raise InputError(f"--label-smoothing {label_smoothing}: from 0 to below 1.")
        if spec.num_classes < 2:
            raise InputError(
                f"{type(self).__name__}: the spec names {spec.num_classes} classes. A data module of your own has no "
                "spec; wrap its data sets in datamodules.Plain."
            )
        self.num_outputs, self.label_smoothing = spec.num_classes, label_smoothing
        counts = torch.tensor(spec.class_counts, dtype=torch.int64)  # whole: float16 ends at 65 504
        self.register_buffer("class_counts", counts, persistent=False)

    @override
    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the mean cross-entropy of logits and classes [batch], or shares of them [batch, num_classes]."""
        return F.cross_entropy(outputs, target, label_smoothing=self.label_smoothing)

    @override
    def training_loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        if self.imbalance in ("none", "sampler"):
            return self.loss(outputs, target)
        return imbalanced_loss(self.imbalance, outputs, target, self.class_counts, self.label_smoothing)

    @override
    def predictions(self, outputs: Tensor) -> dict[str, Tensor]:
        return {"prob": outputs.softmax(-1)}

    @override
    def mean_outputs(self, outputs: Tensor) -> Tensor:
        return outputs.float().log_softmax(-1).logsumexp(0) - math.log(len(outputs))

    @override
    def set_imbalance_strategy(self, strategy: Imbalance) -> None:
        if strategy not in ("none", "sampler") and type(self).loss is not SingleLabel.loss:
            raise InputError(
                f"--imbalance {strategy}: {type(self).__name__} has a loss of its own, which would be replaced. "
                "Choose sampler, or weigh the classes in that loss."
            )
        if strategy != "none" and not self.spec.class_counts:
            raise InputError(f"--imbalance {strategy}: the data module's spec does not say class_counts.")
        self.imbalance = strategy

    @override
    def solve_head(self, head: Any, train: Mapping[str, Tensor]) -> str:
        """Fit to the training examples, so that rare classes count as in the training.

        A balanced sampler is met by weights, which have the same mean loss. With logit adjustment the solved logits are
        those with the prior; since the bias bears no penalty, taking the prior from it is exact. For the focal loss
        nothing is solved.
        """
        if self.imbalance == "focal":
            return "not solved: trained from random weights, by the focal loss"
        weights = class_weights(self.class_counts) if self.imbalance in ("weights", "sampler") else None
        line = head.fit(train["features"], train["target"], weights)
        if self.imbalance == "logit_adjust":
            with torch.no_grad():
                head.bias.sub_(log_prior(self.class_counts).to(head.bias))
        return line

    # -------------------------------------------------------------------------------------------------------- metrics
    @override
    def train_metrics(self) -> MetricCollection:
        return MetricCollection({"acc": MulticlassAccuracy(self.num_outputs, average="micro")})

    @override
    def metrics(self) -> MetricCollection:
        """Return metrics that are macro-averaged but for acc; ece has 15 bins (Guo et al. 2017).

        A class without examples is left out of balanced_acc, recall and auroc, and, unless it is predicted, of
        precision and f1. Above a million probabilities auroc is near, not exact: see `ranking.py`.
        """
        count = self.num_outputs
        return MetricCollection(
            {
                "acc": MulticlassAccuracy(count, average="micro"),
                "balanced_acc": MeanRecall(count, average="none"),
                "precision": MulticlassPrecision(count, average="macro"),
                "recall": MeanRecall(count, average="none"),
                "f1": MulticlassF1Score(count, average="macro"),
                "auroc": MeanAUROC(count),
                "ece": MulticlassCalibrationError(count, n_bins=15),
            }
        )

    @override
    def update(self, metrics: MetricCollection, predicted: Mapping[str, Tensor], target: Tensor) -> None:
        metrics.update(predicted["prob"], target if target.ndim == 1 else target.argmax(1))

    # --------------------------------------------------------------------------------------- predictions as a table
    @override
    def target_column(self, target: np.ndarray) -> list[Any]:
        return [self.spec.classes[i] for i in target]

    @override
    def read(self, rows: pd.DataFrame) -> tuple[dict[str, np.ndarray], np.ndarray]:
        number = {name: position for position, name in enumerate(self.spec.classes)}
        target = np.array([number[name] for name in rows["target"]], np.int64)
        prob = rows[[f"prob_{name}" for name in self.spec.classes]].to_numpy(np.float32)
        return {"prob": prob}, target

    # --------------------------------------------------------------------------------------------------------- report
    @override
    def calibrate(self, predicted: Predicted, target: np.ndarray) -> dict[str, Any]:
        return calibrating.calibrate(predicted["prob"], target)

    @override
    def judge(self, predicted: Predicted, target: np.ndarray, calibration: Mapping[str, Any]) -> dict[str, float]:
        return calibrating.judge(predicted["prob"], target, calibration)

    @override
    def calibrated(self, predicted: Predicted, calibration: Mapping[str, Any]) -> Predicted:
        return {"prob": calibrating.with_temperature(predicted["prob"], calibration.get("temperature", 1.0))}

    @override
    def decide(
        self, predicted: Predicted, calibration: Mapping[str, Any], *, threshold: bool = False
    ) -> np.ndarray | None:
        """Return the likeliest classes; with `threshold`, of two classes, the second where it reaches the threshold."""
        chosen = self.calibrated(predicted, calibration) if threshold else predicted
        return calibrating.labels(chosen["prob"], calibration["threshold"] if threshold else None)

    @override
    def report(self, predicted: Predicted, target: np.ndarray) -> dict[str, Any]:
        """Return 'classes': class -> precision, recall, f1 and support; and 'confusion', rows of true classes, where it
        is of a readable size."""
        label, labels = predicted["prob"].argmax(1), list(range(self.num_outputs))
        found: Any = classification_report(target, label, labels=labels, output_dict=True, zero_division=0.0)  # pyright: ignore[reportArgumentType]
        names = {"precision": "precision", "recall": "recall", "f1": "f1-score", "support": "support"}
        by_class = {
            name: {ours: round(float(found[str(i)][theirs]), 6) for ours, theirs in names.items()}
            for i, name in enumerate(self.spec.classes)
        }
        if self.num_outputs > MOST_NAMES:
            return {"classes": by_class}
        return {"classes": by_class, "confusion": confusion_matrix(target, label, labels=labels).tolist()}

    @override
    def figures(
        self, predicted: Predicted, target: np.ndarray, calibration: Mapping[str, Any]
    ) -> Iterator[tuple[str, Figure]]:
        prob, temperature = predicted["prob"], calibration["temperature"]
        after = self.calibrated(predicted, calibration)["prob"]
        yield "reliability", draw_reliability(prob, after, target, temperature)
        counts = confusion_matrix(target, prob.argmax(1), labels=range(self.num_outputs))
        yield "confusion", draw_confusion(counts, self.spec.classes)

    @override
    def mistakes(
        self, predicted: Predicted, target: np.ndarray, count: int, calibration: Mapping[str, Any] | None = None
    ) -> Mistakes:
        prob, classes = predicted["prob"], self.spec.classes
        label = prob.argmax(1)
        wrong = np.flatnonzero(label != target)
        worst = wrong[np.argsort(prob[wrong, target[wrong]])][:count]
        titles = [f"{classes[target[i]]}, not {classes[label[i]]} {prob[i].max():.2f}" for i in worst]
        return Mistakes(worst, titles, label[worst])
