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


class MeanRecall(MulticlassRecall):
    """Recall, as the mean of the classes that have an example."""

    @override
    def compute(self) -> Tensor:
        return super().compute()[self.tp + self.fn > 0].mean()  # pyright: ignore[reportOperatorIssue, reportAttributeAccessIssue]


class MeanAUROC(MulticlassAUROC):
    """The area under the ROC curve of a class against the rest, as the mean of the classes that some examples have and
    some have not."""

    @override
    def compute(self) -> Tensor:
        target = dim_zero_cat(self.target)  # pyright: ignore[reportArgumentType]
        count = torch.bincount(target, minlength=self.num_classes)
        return super().compute()[(count > 0) & (count < len(target))].mean()


class MeanF1(MultilabelF1Score):
    """F1, as the mean of the labels that an example has or is predicted to have; as with scikit-learn's
    `zero_division=nan`."""

    @override
    def compute(self) -> Tensor:
        return super().compute()[self.tp + self.fp + self.fn > 0].mean()  # pyright: ignore[reportOperatorIssue, reportAttributeAccessIssue]


class MeanAveragePrecision(MultilabelAveragePrecision):
    """The average precision, as the mean of the labels that an example has; of the others there is none."""

    @override
    def compute(self) -> Tensor:
        of_labels = super().compute()
        return of_labels[of_labels > 0].mean()  # it is above 0 wherever an example has the label
