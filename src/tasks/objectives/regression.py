"""A number an example, maybe with an interval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanAbsoluteError, MeanMetric, MeanSquaredError, MetricCollection, R2Score, SpearmanCorrCoef
from typing_extensions import override

from src.answers import Predicted, RegressionAnswers
from src.configs import shown
from src.configs.errors import InputError
from src.configs.spec import DataSpec
from src.tasks.objectives.figures import draw_regression
from src.tasks.objectives.objective import Mistakes, Objective, of_one_process

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Loss = Literal["mse", "mae", "huber", "quantile", "gaussian"]
OUTPUTS: dict[Loss, int] = {"mse": 1, "mae": 1, "huber": 1, "quantile": 3, "gaussian": 2}
"""Outputs that a network needs for each loss."""


class Regression(RegressionAnswers, Objective):
    """A number an example, from outputs [batch, OUTPUTS[loss]] and targets [batch] in the table's own units.

    The network sees and predicts the target as `spec.target` scales it; metrics and predictions are in its own units.
    What is in these is computed in float64: float32 would round times in seconds since 1970 to multiples of 128.
    Where the scale is logarithmic, the prediction for 'mse' and 'gaussian' is the geometric mean of what is expected.
    It predicts 'prediction' and, for the last two losses, 'lower' and 'upper', each [batch].

    Args:
        spec: has the target's scale.
        loss: mse (squared error), mae (absolute), huber (Huber 1964, with delta 1 of the scaled target), quantile
            (Koenker & Bassett 1978: a median and the two ends of an interval), gaussian (mean and log variance,
            Nix & Weigend 1994).
        interval: share of the targets that should lie between 'lower' and 'upper', for the last two.

    Raises:
        InputError: no such share.
    """

    mixes_targets = False

    def __init__(self, spec: DataSpec, *, loss: Loss = "mse", interval: float = 0.9) -> None:
        super().__init__(spec)
        if not 0 < interval < 1:
            raise InputError(f"--interval {interval}: a share between 0 and 1.")
        self.loss_name: Loss = loss
        self.interval, self.num_outputs = interval, OUTPUTS[loss]

    def scaled(self, target: Tensor) -> Tensor:
        """Return targets [batch] as the network sees them, float32."""
        scale, values = self.spec.target, in_float64(target)
        return (((values.log() if scale.log else values) - scale.mean) / scale.std).float()

    def unscaled(self, scaled: Tensor) -> Tensor:
        """Return what the network predicts [batch] in the target's own units, float64."""
        scale = self.spec.target
        values = in_float64(scaled) * scale.std + scale.mean
        return values.exp() if scale.log else values

    @override
    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        return self.scaled_loss(outputs, self.scaled(target).to(outputs.device))

    def scaled_loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of outputs [batch, num_outputs] and scaled targets [batch]."""
        match self.loss_name:
            case "mse":
                return F.mse_loss(outputs[:, 0], target)
            case "mae":
                return F.l1_loss(outputs[:, 0], target)
            case "huber":
                return F.huber_loss(outputs[:, 0], target)
            case "gaussian":
                return F.gaussian_nll_loss(outputs[:, 0], target, outputs[:, 1].exp())
            case "quantile":
                rest = (1 - self.interval) / 2
                share = torch.tensor([rest, 0.5, 1 - rest], device=target.device, dtype=target.dtype)
                error = target[:, None] - outputs
                return torch.maximum(share * error, (share - 1) * error).mean()

    @override
    def predictions(self, outputs: Tensor) -> dict[str, Tensor]:
        if self.loss_name == "quantile":  # sorted: nothing keeps trained quantiles from crossing
            scaled = dict(zip(("lower", "prediction", "upper"), outputs.sort(dim=1).values.unbind(1), strict=True))
        elif self.loss_name == "gaussian":
            mean, std = outputs[:, 0], (outputs[:, 1] / 2).exp()
            width = NormalDist().inv_cdf((1 + self.interval) / 2) * std
            scaled = {"prediction": mean, "lower": mean - width, "upper": mean + width}
        else:
            scaled = {"prediction": outputs[:, 0]}
        return {name: self.unscaled(values) for name, values in scaled.items()}

    @override
    def mean_outputs(self, outputs: Tensor) -> Tensor:
        return outputs.mean(0)

    @override
    def solve_head(self, head: Any, train: Mapping[str, Tensor]) -> str:
        """Fit to the targets as the network sees them."""
        return head.fit(train["features"], self.scaled(train["target"]))

    # -------------------------------------------------------------------------------------------------------- metrics
    @override
    def metrics(self) -> MetricCollection:
        return regression_metrics(with_interval=self.num_outputs > 1)

    @override
    def update(self, metrics: MetricCollection, predicted: Mapping[str, Tensor], target: Tensor) -> None:
        """Count in a batch. What float32 could round away is done before: errors are subtracted here, and R2 and
        Spearman's take the distances from the middle of the targets, in units of their deviation."""
        found, target = {name: in_float64(values) for name, values in predicted.items()}, in_float64(target)
        middle, above = self.unscaled(torch.tensor([0.0, 1.0])).tolist()
        device = metrics["rmse"].device

        def count(name: str, *values: Tensor) -> None:
            metrics[name].update(*(each.to(metrics_dtype()).to(device) for each in values))

        error = found["prediction"] - target
        for name in ("rmse", "mae"):
            count(name, error, torch.zeros_like(error))
        for name in ("r2", "spearman"):
            count(name, *((values - middle) / (above - middle) for values in (found["prediction"], target)))
        if "lower" in found:
            count("coverage", (found["lower"] <= target) & (target <= found["upper"]))

    @override
    def score(self, predicted: Predicted, target: np.ndarray) -> dict[str, float]:
        """Return the metrics of predictions; 'coverage' where they have an interval."""
        metrics = of_one_process(regression_metrics(with_interval="lower" in predicted))
        columns = {name: torch.from_numpy(values) for name, values in predicted.items()}
        self.update(metrics, columns, torch.from_numpy(target))
        return {name: float(value) for name, value in metrics.compute().items()}

    # --------------------------------------------------------------------------------------- predictions as a table
    @override
    def target_column(self, target: np.ndarray) -> list[Any]:
        return target.tolist()

    @override
    def read(self, rows: pd.DataFrame) -> tuple[dict[str, np.ndarray], np.ndarray]:
        names = [name for name in ("prediction", "lower", "upper") if name in rows.columns]
        columns = {name: rows[name].to_numpy(np.float64) for name in (*names, "target")}
        return columns, columns.pop("target")

    # --------------------------------------------------------------------------------------------------------- report
    @override
    def figures(
        self, predicted: Predicted, target: np.ndarray, calibration: Mapping[str, Any]
    ) -> Iterator[tuple[str, Figure]]:
        ends = np.stack([predicted["lower"], predicted["upper"]]) if "lower" in predicted else None
        yield "predictions", draw_regression(target, predicted["prediction"], self.spec.target.name, ends)

    @override
    def mistakes(
        self, predicted: Predicted, target: np.ndarray, count: int, calibration: Mapping[str, Any] | None = None
    ) -> Mistakes:
        prediction, name = predicted["prediction"], self.spec.target.name
        worst = np.argsort(-np.abs(target - prediction))[:count]
        titles = [
            "{} {}, predicted {}".format(name, *shown.apart(float(target[i]), float(prediction[i]))) for i in worst
        ]
        return Mistakes(worst, titles, np.zeros(len(worst), np.int64))


class R2(R2Score):
    """R2 from torchmetrics' sums, which takes a small spread for none; NaN where the targets have none to be seen."""

    @override
    def compute(self) -> Tensor:
        spread = self.sum_squared_error - self.sum_error**2 / self.total
        seen = spread > 1e4 * torch.finfo(spread.dtype).eps * self.sum_squared_error
        return torch.where(seen, 1 - self.residual / spread, torch.nan)


def regression_metrics(*, with_interval: bool) -> MetricCollection:
    """Return the metrics of a validation or test: in the target's units rmse and mae, without unit the others.

    They are kept in float64; in float32 where there is an Apple GPU, to which they may be moved.
    """
    metrics: dict[str, Any] = {
        "rmse": MeanSquaredError(squared=False),
        "mae": MeanAbsoluteError(),
        "r2": R2(),
        "spearman": SpearmanCorrCoef(),
    }
    if with_interval:
        metrics["coverage"] = MeanMetric()
    collection = MetricCollection(metrics, compute_groups=False)
    collection.set_dtype(metrics_dtype())
    return collection


def metrics_dtype() -> torch.dtype:
    """Return what metrics are kept in. They do not know: after a move torchmetrics' `dtype` is torch's default."""
    return torch.float32 if torch.backends.mps.is_available() else torch.float64


def in_float64(values: Tensor) -> Tensor:
    """Return values in float64; on the CPU where their device has none, as Apple's GPUs."""
    return (values.cpu() if values.device.type == "mps" else values).double()
