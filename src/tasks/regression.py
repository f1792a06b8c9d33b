"""Regression: a number an example, maybe with an interval."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import NormalDist
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanAbsoluteError, MeanMetric, MeanSquaredError, MetricCollection, R2Score, SpearmanCorrCoef
from typing_extensions import override

from src.configs.errors import InputError
from src.configs.optim import Optim
from src.configs.spec import DataSpec
from src.tasks.task import Batch, Stage, Task

Loss = Literal["mse", "mae", "huber", "quantile", "gaussian"]
OUTPUTS: dict[Loss, int] = {"mse": 1, "mae": 1, "huber": 1, "quantile": 3, "gaussian": 2}
"""Outputs that a model needs for each loss."""


class Regression(Task):
    """Rows as 'numbers' [batch, n] and 'categories' [batch, c] -> a number; other data override `inputs`.

    The model sees and predicts the target as `spec.target` scales it; metrics and predictions are in its own units.
    Where the scale is logarithmic, the prediction for 'mse' and 'gaussian' is the geometric mean of what is expected.

    Args:
        model: the network, with `OUTPUTS[loss]` outputs; `features` and `head` apart where `cached_features` is used.
        spec: has the target's scale.
        optim: optimiser and schedule.
        loss: mse (squared error), mae (absolute), huber (Huber 1964, with delta 1 of the scaled target), quantile
            (Koenker & Bassett 1978: a median and the two ends of an interval), gaussian (mean and log variance,
            Nix & Weigend 1994).
        interval: share of the targets that should lie between 'lower' and 'upper', for the last two.
        cached_features: 'start' solves the head on them in closed form before training.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: DataSpec,
        optim: Optim,
        *,
        loss: Loss = "mse",
        interval: float = 0.9,
        cached_features: Literal["no", "start", "probe"] = "no",
    ) -> None:
        super().__init__(model, optim)
        if not 0 < interval < 1:
            raise InputError(f"--interval {interval}: a share between 0 and 1.")
        self.spec, self.loss_name, self.interval, self.cached_features = spec, loss, interval, cached_features
        if cached_features == "probe":
            model.requires_grad_(False)
            self.head.requires_grad_(True)
        full = regression_metrics(with_interval=OUTPUTS[loss] > 1)
        self.metrics = nn.ModuleDict({"val": full, "test": full.clone()})

    @property
    def head(self) -> Any:
        return self.model.head

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return what the model takes of a batch."""
        return batch["numbers"], batch["categories"]

    def forward(self, batch: Batch) -> Tensor:
        """Return the outputs [batch, OUTPUTS[loss]] for a batch, or for its kept 'features'."""
        return self.head(batch["features"]) if "features" in batch else self.model(*self.inputs(batch))

    @override
    def features(self, batch: Batch) -> Tensor:
        model: Any = self.model
        return model.features(*self.inputs(batch))

    def _step(self, batch: Batch, stage: Stage) -> dict[str, Tensor]:
        target = batch["target"]
        outputs = self(batch).float()
        loss = self.loss(outputs, self.scaled(target))
        if stage == "train":
            return {"loss": loss}
        self.log_loss(stage, loss, len(target))
        found = self.predictions(outputs.detach())
        metrics: Any = self.metrics[stage]
        middle, above = self.unscaled(torch.tensor([0.0, 1.0], device=target.device))
        update(metrics, found, target, middle, above - middle)
        self.log_dict({f"{stage}/{name}": metric for name, metric in metrics.items(keep_base=True)}, on_epoch=True)
        return {"loss": loss, "target": target, "index": batch["index"], **found}

    def scaled(self, target: Tensor) -> Tensor:
        """Return targets [batch] as the model sees them."""
        scale = self.spec.target
        return ((target.log() if scale.log else target) - scale.mean) / scale.std

    def unscaled(self, scaled: Tensor) -> Tensor:
        """Return what the model predicts [batch] in the target's own units."""
        scale = self.spec.target
        found = scaled * scale.std + scale.mean
        return found.exp() if scale.log else found

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of outputs [batch, OUTPUTS[loss]] and scaled targets [batch]."""
        match self.loss_name:
            case "mse":
                return F.mse_loss(outputs[:, 0], target)
            case "mae":
                return F.l1_loss(outputs[:, 0], target)
            case "huber":
                return F.huber_loss(outputs[:, 0], target)
            case "gaussian":
                return F.gaussian_nll_loss(outputs[:, 0], target, outputs[:, 1].exp())
            case _:
                rest = (1 - self.interval) / 2
                share = torch.tensor([rest, 0.5, 1 - rest], device=target.device)
                error = target[:, None] - outputs
                return torch.maximum(share * error, (share - 1) * error).mean()

    def predictions(self, outputs: Tensor) -> dict[str, Tensor]:
        """Return 'prediction' and, where the loss gives them, 'lower' and 'upper', each [batch], in own units."""
        if self.loss_name == "quantile":  # sorted: nothing keeps trained quantiles from crossing
            found = dict(zip(("lower", "prediction", "upper"), outputs.sort(dim=1).values.unbind(1), strict=True))
        elif self.loss_name == "gaussian":
            mean, std = outputs[:, 0], (outputs[:, 1] / 2).exp()
            width = NormalDist().inv_cdf((1 + self.interval) / 2) * std
            found = {"prediction": mean, "lower": mean - width, "upper": mean + width}
        else:
            found = {"prediction": outputs[:, 0]}
        return {name: self.unscaled(values) for name, values in found.items()}

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """Return 'index', what `predictions` says of them, and the batch's 'error' {index: why}."""
        found = self.predictions(self(batch).float())
        return {"index": batch["index"], "error": batch["error"], **found}

    def start_from_features(self, kept: Mapping[str, Mapping[str, Tensor]]) -> str:
        """Solve the head on the features of a frozen model, or on the rows themselves, by ridge regression."""
        train, val = kept["train"], kept["val"]
        l2 = self.head.solve(
            (train["features"], self.scaled(train["target"])), (val["features"], self.scaled(val["target"]))
        )
        return f"solved in closed form on {list(train['features'].shape)}, L2 {l2:g} by leave-one-out"


class R2(R2Score):
    """Torchmetrics' R2, NaN instead of an error for a single example."""

    @override
    def compute(self) -> Tensor:
        return super().compute() if self.total > 1 else torch.tensor(torch.nan, device=self.total.device)


def regression_metrics(*, with_interval: bool) -> MetricCollection:
    """Return the metrics of a validation or test: in the target's units rmse and mae, without unit the others."""
    metrics: dict[str, Any] = {
        "rmse": MeanSquaredError(squared=False),
        "mae": MeanAbsoluteError(),
        "r2": R2(),
        "spearman": SpearmanCorrCoef(),
    }
    if with_interval:
        metrics["coverage"] = MeanMetric()
    return MetricCollection(metrics, compute_groups=False)


def update(
    metrics: Any, found: Mapping[str, Tensor], target: Tensor, middle: Tensor, unit: Tensor | float = 1.0
) -> None:
    """Count in what `predictions` found. Far from 0 squares drown the differences, so they are taken from `middle`;
    those of R2, which adds them all up, in `unit`s.
    """
    from_middle = found["prediction"] - middle, target - middle
    for name in ("rmse", "mae", "spearman"):
        metrics[name].update(*from_middle)
    metrics["r2"].update(*(values / unit for values in from_middle))
    if "lower" in found:
        inside = (found["lower"] <= target) & (target <= found["upper"])
        metrics["coverage"].update(inside.float())
