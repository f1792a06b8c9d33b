"""Any number of labels an example: binary cross-entropy of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import average_precision_score, f1_score, precision_recall_fscore_support
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MultilabelExactMatch,
    MultilabelF1Score,
    MultilabelHammingDistance,
)
from typing_extensions import override

from src.answers import MultiLabelAnswers, Predicted
from src.configs.labels import split_labels
from src.configs.spec import DataSpec
from src.tasks.objectives.calibration import best_f1_threshold
from src.tasks.objectives.figures import draw_label_scores
from src.tasks.objectives.objective import Mistakes, Objective
from src.tasks.objectives.present import MeanAveragePrecision, MeanF1

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class MultiLabel(MultiLabelAnswers, Objective):
    """Any number of labels an example, none included: binary cross-entropy of logits and targets [batch, num_labels].

    It predicts 'prob' [batch, num_labels], each label's probability on its own. Metrics take a label from 0.5 on. An
    evaluation chooses a threshold for each label on the validation split; predictions then show the labels that reach
    theirs.

    Args:
        spec: names the labels.
    """

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        self.num_outputs = spec.num_classes

    @override
    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the mean binary cross-entropy over all examples and labels."""
        return F.binary_cross_entropy_with_logits(outputs, target.to(outputs.dtype))

    @override
    def predictions(self, outputs: Tensor) -> dict[str, Tensor]:
        return {"prob": outputs.sigmoid()}

    @override
    def mean_outputs(self, outputs: Tensor) -> Tensor:
        yes, no = (F.logsigmoid(sign * outputs.float()).logsumexp(0) for sign in (1, -1))
        return yes - no

    @override
    def solve_head(self, head: Any, train: Mapping[str, Tensor]) -> str:
        """Fit to all labels, each by itself."""
        return head.fit(train["features"], train["target"])

    # -------------------------------------------------------------------------------------------------------- metrics
    @override
    def train_metrics(self) -> MetricCollection:
        return MetricCollection({"f1_micro": MultilabelF1Score(self.num_outputs, average="micro")})

    @override
    def metrics(self) -> MetricCollection:
        """Return F1 over all decisions (micro) and as the labels' mean (macro), the mean average precision, the share
        of examples whose labels are all right, and the share of wrong decisions.

        A label without examples is left out of map and, unless it is predicted, of f1_macro. Above a million
        probabilities map is near, not exact: see `ranking.py`.
        """
        count = self.num_outputs
        return MetricCollection(
            {
                "f1_micro": MultilabelF1Score(count, average="micro"),
                "f1_macro": MeanF1(count, average="none"),
                "map": MeanAveragePrecision(count),
                "exact_match": MultilabelExactMatch(count),
                "hamming": MultilabelHammingDistance(count),
            }
        )

    @override
    def update(self, metrics: MetricCollection, predicted: Mapping[str, Tensor], target: Tensor) -> None:
        metrics.update(predicted["prob"], (target > 0.5).long())  # a blended target counts as what it has more of

    # --------------------------------------------------------------------------------------- predictions as a table
    @override
    def target_column(self, target: np.ndarray) -> list[Any]:
        return self.names(target > 0.5)

    @override
    def read(self, rows: pd.DataFrame) -> tuple[dict[str, np.ndarray], np.ndarray]:
        target = np.array(
            [[name in split_labels(cell) for name in self.spec.classes] for cell in rows["target"]], np.float32
        )
        prob = rows[[f"prob_{name}" for name in self.spec.classes]].to_numpy(np.float32)
        return {"prob": prob}, target

    # --------------------------------------------------------------------------------------------------------- report
    @override
    def calibrate(self, predicted: Predicted, target: np.ndarray) -> dict[str, Any]:
        """Choose for each label the threshold of the best F1 on a validation split; 0.5 for one that it has not."""
        prob = predicted["prob"]
        found = [best_f1_threshold(prob[:, i], target[:, i] > 0.5) for i in range(self.num_outputs)]
        chosen = {"thresholds": dict(zip(self.spec.classes, found, strict=True))}
        return chosen | self.judge(predicted, target, chosen)

    @override
    def judge(self, predicted: Predicted, target: np.ndarray, calibration: Mapping[str, Any]) -> dict[str, float]:
        true = target > 0.5
        decided = {"before": predicted["prob"] >= 0.5, "thresholds": self.decide(predicted, calibration)}
        return {
            f"f1_{average}_{when}": float(f1_score(true, labels, average=average, zero_division=absent))  # pyright: ignore[reportArgumentType]
            for when, labels in decided.items()
            for average, absent in (("micro", 0.0), ("macro", np.nan))  # as the metrics have them
        }

    @override
    def decide(
        self, predicted: Predicted, calibration: Mapping[str, Any], *, threshold: bool = False
    ) -> np.ndarray | None:
        """Return which labels reach their threshold, bool [examples, num_labels]; 0.5 where none was chosen."""
        chosen = calibration.get("thresholds", {})
        return predicted["prob"] >= np.array([chosen.get(name, 0.5) for name in self.spec.classes])

    @override
    def report(self, predicted: Predicted, target: np.ndarray) -> dict[str, Any]:
        """Return 'classes': label -> precision, recall, f1 (all from 0.5 on), average precision and support."""
        true = target > 0.5
        columns: Any = precision_recall_fscore_support(true, predicted["prob"] >= 0.5, zero_division=0.0)  # pyright: ignore[reportArgumentType]
        names = ("precision", "recall", "f1", "support")
        by_label: dict[str, Any] = {}
        for i, label in enumerate(self.spec.classes):
            by_label[label] = {name: round(float(column[i]), 6) for name, column in zip(names, columns, strict=True)}
            if true[:, i].any():
                precision = average_precision_score(true[:, i], predicted["prob"][:, i])
                by_label[label]["average_precision"] = round(float(precision), 6)
        return {"classes": by_label}

    @override
    def figures(
        self, predicted: Predicted, target: np.ndarray, calibration: Mapping[str, Any]
    ) -> Iterator[tuple[str, Figure]]:
        yield "labels", draw_label_scores(self.report(predicted, target)["classes"])

    @override
    def mistakes(
        self, predicted: Predicted, target: np.ndarray, count: int, calibration: Mapping[str, Any] | None = None
    ) -> Mistakes:
        """Return the examples with the least likely decision that is wrong."""
        true, prob = target > 0.5, predicted["prob"]
        decided: Any = self.decide(predicted, calibration or {})
        right = np.where(decided == true, np.inf, np.where(true, prob, 1 - prob))  # of decisions that are wrong
        wrong = np.flatnonzero((decided != true).any(axis=1))
        worst = wrong[np.argsort(right.min(axis=1)[wrong])][:count]
        taken = self.names(decided[worst])
        titles = [
            f"{name or 'no label'}, not {own or 'no label'}"
            for name, own in zip(self.names(true[worst]), taken, strict=True)
        ]
        return Mistakes(worst, titles, right[worst].argmin(axis=1))
