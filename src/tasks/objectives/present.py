"""Means over the classes, or labels, that the examples have: torchmetrics' own count an absent one as 0.

Each is torchmetrics' metric with `average="none"`; NaN where nothing can be scored. Macro precision and F1 of classes
are right in torchmetrics itself: there a class counts that is there or predicted, as in scikit-learn.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.classification import (
    MulticlassAUROC,
    MulticlassRecall,
    MultilabelAveragePrecision,
    MultilabelF1Score,
)
from torchmetrics.utilities.data import dim_zero_cat
from typing_extensions import override

from src.tasks.objectives.ranking import Ranking


class MeanRecall(MulticlassRecall):
    """Recall, as the mean of the classes that have an example."""

    @override
    def compute(self) -> Tensor:
        return super().compute()[self.tp + self.fn > 0].mean()  # pyright: ignore[reportOperatorIssue, reportAttributeAccessIssue]


class MeanAUROC(Ranking, MulticlassAUROC):
    """The area under the ROC curve of a class against the rest, as the mean of the classes that some examples have and
    some have not."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, average="none")
        self.bound()

    @override
    def compute(self) -> Tensor:
        if self.merged:
            places = self.places()
            pairs = places.weight.sum(-1).prod(0)
            right = (places.weight[1] * (places.before[0] + places.upto[0]) / 2).sum(-1)  # of equal ones: half
            return (right / pairs)[pairs > 0].mean().float()
        target = dim_zero_cat(self.target)
        count = torch.bincount(target, minlength=self.num_classes)
        return super().compute()[(count > 0) & (count < len(target))].mean()


class MeanF1(MultilabelF1Score):
    """F1, as the mean of the labels that an example has or is predicted to have; as with scikit-learn's
    `zero_division=nan`."""

    @override
    def compute(self) -> Tensor:
        return super().compute()[self.tp + self.fp + self.fn > 0].mean()  # pyright: ignore[reportOperatorIssue, reportAttributeAccessIssue]


class MeanAveragePrecision(Ranking, MultilabelAveragePrecision):
    """The average precision, as the mean of the labels that an example has; of the others there is none."""

    def __init__(self, num_labels: int) -> None:
        super().__init__(num_labels, average="none")
        self.bound()

    @override
    def compute(self) -> Tensor:
        if self.merged:
            places = self.places()
            total = places.weight.sum(-1, keepdim=True)
            without, having = total - (places.before + places.upto) / 2  # of a group: half, as they lie anywhere in it
            gained = places.weight[1] / total[1]
            return (gained * having / (without + having).clamp_min(1)).sum(-1)[total[1, :, 0] > 0].mean().float()
        of_labels = super().compute()
        return of_labels[of_labels > 0].mean()  # it is above 0 wherever an example has the label
