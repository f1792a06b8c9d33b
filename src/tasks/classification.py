"""Classification: one base for whatever is classified."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassCalibrationError,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)
from typing_extensions import override

from src.experiment import DataSpec, Optim
from src.tasks.base import Batch, Stage, Task


class Classification(Task):
    """One label an example: cross-entropy, and torchmetrics' scores. A subclass gives `inputs(batch)`.

    Args:
        model: the network; `features` and `head` apart where `kept_features` is used.
        spec: names the classes.
        optim: optimiser and schedule.
        label_smoothing: share of the target spread over all classes (Szegedy et al. 2016, section 7).
        kept_features: see `Task.kept_features`.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: DataSpec,
        optim: Optim,
        *,
        label_smoothing: float = 0.0,
        kept_features: Literal["no", "start", "training"] = "no",
    ) -> None:
        super().__init__(model, optim)
        self.spec, self.label_smoothing, self.kept_features = spec, label_smoothing, kept_features
        if kept_features == "training":
            model.requires_grad_(False)
            self.head.requires_grad_(True)
        full = classification_metrics(spec.num_classes)
        self.train_metrics = MetricCollection({"acc": full["acc"].clone()}, prefix="train/")
        self.metrics = nn.ModuleDict({"val": full.clone(prefix="val/"), "test": full.clone(prefix="test/")})

    @property
    def head(self) -> Any:
        return self.model.head

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return what the model takes of a batch."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> Tensor:
        """Return the logits [batch, num_classes] of a batch, or of its kept 'features' [batch, num_features]."""
        return self.head(batch["features"]) if "features" in batch else self.model(*self.inputs(batch))

    @override
    def features(self, batch: Batch) -> Tensor:
        model: Any = self.model
        return model.features(*self.inputs(batch))

    def _step(self, batch: Batch, stage: Stage) -> dict[str, Tensor]:
        target = batch["target"]
        logits = self(batch).float()
        loss = self.loss(logits, target)
        prob = logits.detach().softmax(-1)
        if stage == "train":
            self.train_metrics.update(prob, target)
            return {"loss": loss}
        metrics: Any = self.metrics[stage]
        metrics.update(prob, target)
        self.log_loss(stage, loss, len(target))
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=len(target))
        return {"loss": loss, "prob": prob, "target": target, "index": batch["index"]}

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean cross-entropy of logits [batch, num_classes] and targets [batch]."""
        return F.cross_entropy(logits, target, label_smoothing=self.label_smoothing)

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """Return 'index', 'prob' [batch, num_classes] for them, and the batch's 'error' {index: why}."""
        prob = self(batch).float().softmax(-1) if len(batch["index"]) else torch.empty(0, self.spec.num_classes)
        return {"index": batch["index"], "prob": prob, "error": batch["error"]}

    def start_from(self, kept: Mapping[str, Mapping[str, Tensor]]) -> str:
        """Solve the head on the features of a frozen backbone."""
        train, val = kept["train"], kept["val"]
        l2 = self.head.solve((train["features"], train["target"]), (val["features"], val["target"]))
        return f"solved on kept features {list(train['features'].shape)}, L2 {l2:g} chosen on val"


def classification_metrics(num_classes: int) -> MetricCollection:
    """Return the metrics of a validation or test, macro-averaged but for acc; ece has 15 bins (Guo et al. 2017)."""
    return MetricCollection(
        {
            "acc": MulticlassAccuracy(num_classes, average="micro"),
            "balanced_acc": MulticlassAccuracy(num_classes, average="macro"),
            "precision": MulticlassPrecision(num_classes, average="macro"),
            "recall": MulticlassRecall(num_classes, average="macro"),
            "f1": MulticlassF1Score(num_classes, average="macro"),
            "auroc": MulticlassAUROC(num_classes, average="macro"),
            "ece": MulticlassCalibrationError(num_classes, n_bins=15),
        }
    )
