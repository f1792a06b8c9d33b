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

from src.configs.errors import InputError
from src.configs.optim import Optim
from src.configs.spec import DataSpec
from src.configs.training import Imbalance
from src.tasks.imbalance import class_weights, imbalanced_loss, log_prior
from src.tasks.task import Batch, Stage, Task


class Classification(Task):
    """One label an example: cross-entropy, and torchmetrics' scores. A subclass gives `inputs(batch)`.

    Args:
        model: the network; `features` and `head` apart where `cached_features` is used.
        spec: names the classes.
        optim: optimiser and schedule.
        label_smoothing: share of the target spread over all classes (Szegedy et al. 2016, section 7).
        cached_features: see `Task.cached_features`.
    """

    imbalance: Imbalance = "none"
    """What the training loss does about rare classes; set by `set_imbalance_strategy`."""
    class_counts: Tensor
    """Training examples of each class."""

    def __init__(
        self,
        model: nn.Module,
        spec: DataSpec,
        optim: Optim,
        *,
        label_smoothing: float = 0.0,
        cached_features: Literal["no", "start", "probe"] = "no",
    ) -> None:
        super().__init__(model, optim)
        if not 0 <= label_smoothing < 1:
            raise InputError(f"--label-smoothing {label_smoothing}: from 0 to below 1.")
        self.spec, self.label_smoothing, self.cached_features = spec, label_smoothing, cached_features
        self.register_buffer("class_counts", torch.tensor(spec.class_counts, dtype=torch.float32), persistent=False)
        if cached_features == "probe":
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

    def augmented(self, batch: Batch) -> Batch:
        """Return a training batch as it is trained on; what is drawn derives from the step's seed.

        'target' may become shares of the classes [batch, num_classes].
        """
        return batch

    def _step(self, batch: Batch, stage: Stage) -> dict[str, Tensor]:
        batch = self.augmented(batch) if stage == "train" else batch
        target = batch["target"]
        logits = self(batch).float()
        loss = self.training_loss(logits, target) if stage == "train" else self.loss(logits, target)
        prob = logits.detach().softmax(-1)
        if stage == "train":
            self.train_metrics.update(prob, target if target.ndim == 1 else target.argmax(1))
            return {"loss": loss}
        metrics: Any = self.metrics[stage]
        metrics.update(prob, target)
        self.log_loss(stage, loss, len(target))
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=len(target))
        return {"loss": loss, "prob": prob, "target": target, "index": batch["index"]}

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean cross-entropy of logits [batch, num_classes] and targets [batch], or shares of the classes
        [batch, num_classes].
        """
        return F.cross_entropy(logits, target, label_smoothing=self.label_smoothing)

    def training_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return what the training makes less of: `loss`, or what `imbalance` makes of it."""
        if self.imbalance in ("none", "sampler"):
            return self.loss(logits, target)
        return imbalanced_loss(self.imbalance, logits, target, self.class_counts.float(), self.label_smoothing)

    def set_imbalance_strategy(self, imbalance: Imbalance) -> None:
        """Choose what the training does about rare classes; the data module draws the batches of 'sampler'.

        Raises:
            InputError: it cannot be done here.
        """
        if imbalance == "focal" and self.cached_features == "start":
            raise InputError(
                "--imbalance focal: this experiment starts from a head solved for cross-entropy. Choose weights, "
                "sampler or logit_adjust, or an experiment that does not."
            )
        if imbalance not in ("none", "sampler") and type(self).loss is not Classification.loss:
            raise InputError(
                f"--imbalance {imbalance}: {type(self).__name__} has a loss of its own, which would be replaced. "
                "Choose sampler, or weigh the classes in that loss."
            )
        if imbalance != "none" and not self.spec.class_counts:
            raise InputError(f"--imbalance {imbalance}: the data module's spec does not say class_counts.")
        self.imbalance = imbalance

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """Return 'index', 'prob' [batch, num_classes] for them, and the batch's 'error' {index: why}."""
        prob = self(batch).float().softmax(-1) if len(batch["index"]) else torch.empty(0, self.spec.num_classes)
        return {"index": batch["index"], "prob": prob, "error": batch["error"]}

    def start_from_features(self, kept: Mapping[str, Mapping[str, Tensor]]) -> str:
        """Solve the head on the features of a frozen backbone, so that rare classes count as in the training.

        A balanced sampler is met by weights, which have the same mean loss. With logit adjustment the solved logits are
        those with the prior; since the bias bears no penalty, taking the prior from it is exact. For the focal loss
        nothing is solved.
        """
        if self.imbalance == "focal":
            return "not solved: trained from random weights, by the focal loss"
        train, val = kept["train"], kept["val"]
        weights = class_weights(self.class_counts) if self.imbalance in ("weights", "sampler") else None
        l2 = self.head.solve((train["features"], train["target"]), (val["features"], val["target"]), weights)
        if self.imbalance == "logit_adjust":
            with torch.no_grad():
                self.head.linear.bias -= log_prior(self.class_counts).to(self.head.linear.bias)
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
