"""The way of gradient descent over the loss of a line."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.figure import Figure

from src.resources.files import atomic_write
from src.runs.metrics_csv import MetricsCsv
from src.runs.tensorboard import VISUALS, TensorBoard
from src.terminal import console


class LossSurface(Callback):
    """For a linear model of one number: draws the squared error over weight and bias, and the steps of the training.

    `loss_surface.png` in the run directory and 'visuals/train/loss_surface' in TensorBoard; prints the prediction for
    one x.

    Args:
        at: that x, as the model sees it.
    """

    def __init__(self, at: float) -> None:
        self.at = at
        self.path: list[tuple[float, float]] = []

    def _keep(self, task: Any) -> None:
        self.path.append((task.head.linear.weight[0, 0].item(), task.head.linear.bias[0].item()))

    def state_dict(self) -> dict[str, Any]:
        return {"path": list(self.path)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.path = state_dict["path"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.path:
            self._keep(pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._keep(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        task: Any = pl_module
        data: Any = trainer.train_dataloader
        columns = data.dataset.columns
        path = np.array(self.path)
        figure = draw_surface(columns["numbers"][:, 0].numpy(), task.objective.scaled(columns["target"]).numpy(), path)
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCsv):
                file = io.BytesIO()
                figure.savefig(file, format="png", dpi=120)
                atomic_write(logger.run / "loss_surface.png", file.getvalue())
            elif isinstance(logger, TensorBoard):
                logger.experiment.add_figure(f"{VISUALS}/train/loss_surface", figure)
        with torch.no_grad():
            at = next(task.model.parameters()).new_tensor([[self.at]])  # on its device, in its arithmetic
            found = task.objective.unscaled(task.model(at))[0, 0].item()
        weight, bias = path[-1]
        console.line("line", f"weight {weight:.4f}, bias {bias:.4f}; for x = {self.at:g} it predicts {found:.4f}")


def draw_surface(x: np.ndarray, y: np.ndarray, path: np.ndarray) -> Figure:
    """Draw the mean squared error of weight * x + bias to y, and a path over it.

    Args:
        x, y: [points].
        path: weight and bias after each step, [steps, 2].
    """
    middle, reach = path[-1], np.abs(path - path[-1]).max(0).clip(0.5) * 1.3
    weights, biases = (np.linspace(m - r, m + r, 200) for m, r in zip(middle, reach, strict=True))
    loss = ((weights[:, None, None] * x + biases[:, None] - y) ** 2).mean(-1)
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.contourf(weights, biases, np.log10(loss + 1e-6).T, levels=30, cmap="viridis")
    left.plot(*path.T, color="white", marker=".", markersize=4, linewidth=1)
    left.plot(*path[0], color="tab:red", marker="o", linestyle="none", label="start")
    left.plot(*path[-1], color="tab:orange", marker="*", markersize=14, linestyle="none", label="end")
    left.set(xlabel="weight", ylabel="bias", title="log10 of the mean squared error")
    left.legend()
    ends = np.array([min(x.min(), 0), x.max() + 1])
    for step in sorted({0, 1, 2, 4, 8, len(path) - 1} & set(range(len(path)))):
        weight, bias = path[step]
        right.plot(ends, weight * ends + bias, label=f"after {step} steps")
    right.plot(x, y, color="black", marker="o", linestyle="none")
    right.set(xlabel="x", ylabel="y", title="the line on its way")
    right.legend()
    return figure
