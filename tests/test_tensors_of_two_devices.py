"""What would end a run on a GPU: tensors of two devices in one operation. Seen without one, by torch's `meta` device
and by tensors that are told apart from those of the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from experiments.linear_regression import LinearRegression
from src import models
from src.configs.spec import DataSpec, Target
from src.configs.training import Imbalance
from src.models.heads import Head
from src.tasks.epoch_so_far import hand_out, joined
from src.tasks.objectives import OUTPUTS, MultiLabel, Objective, Regression, SingleLabel
from src.training import runner


class OnGpu(Tensor):
    """A tensor that meets none of the CPU in one operation, and is no array before it is moved there."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name == "cpu":
            return args[0].as_subclass(Tensor).clone()
        if name == "numpy":
            raise TypeError("can't convert a tensor of the GPU to numpy")
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if name == "to" and len(tensors) == 2 and not isinstance(tensors[1], cls):
            return args[0].as_subclass(Tensor).to(tensors[1])
        if name != "copy_" and any(not isinstance(tensor, cls) and tensor.ndim for tensor in tensors):
            raise RuntimeError(f"{name}: Expected all tensors to be on the same device")
        return super().__torch_function__(func, types, args, kwargs or {})


def test_the_premise() -> None:
    there = torch.ones(2).as_subclass(OnGpu)
    assert isinstance(there * 2, OnGpu)
    for crash in (lambda: there * torch.ones(2), lambda: torch.ones(2) - there, lambda: there.numpy()):
        with pytest.raises((RuntimeError, TypeError)):
            crash()


def rows(count: int = 60) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 4, generator=generator), (torch.arange(count) % 5 == 0).long()


@pytest.mark.parametrize("method", get_args(Imbalance))
def test_a_head_is_solved_on_features_and_counts_of_a_gpu(method: Imbalance) -> None:
    features, target = rows()
    solved = []
    for wrapped in (Tensor, OnGpu):
        objective, head = SingleLabel(DataSpec(classes=("a", "b"), class_counts=(48, 12))), Head(4, 2)
        torch.nn.init.zeros_(head.linear.weight)
        torch.nn.init.zeros_(head.linear.bias)
        objective.set_imbalance_strategy(method)
        objective.class_counts = objective.class_counts.as_subclass(wrapped)
        kept = {"features": features.as_subclass(wrapped), "target": target.as_subclass(wrapped)}
        objective.solve_head(head, kept)
        solved.append((head.linear.weight, head.linear.bias))
    assert all(torch.equal(*pair) for pair in zip(*solved, strict=True))


def test_other_heads_are_solved_on_features_of_a_gpu() -> None:
    features, target = (part.as_subclass(OnGpu) for part in rows())
    for objective, targets in (
        (Regression(DataSpec(target=Target(kind="regression"))), features[:, 0].double()),
        (MultiLabel(DataSpec(classes=("a",))), target[:, None].float()),
    ):
        kept = {"features": features, "target": targets}
        assert "solved" in objective.solve_head(Head(4, 1), kept)


OBJECTIVES: list[tuple[Objective, Tensor]] = [
    *(
        (Regression(DataSpec(target=Target(kind="regression", mean=3.0, std=2.0)), loss=loss), torch.rand(6).double())
        for loss in OUTPUTS
        if loss != "gaussian"  # torch's own looks at the values, and on `meta` there are none
    ),
    (MultiLabel(DataSpec(classes=("a", "b"))), torch.ones(6, 2)),
]
for strategy in get_args(Imbalance):
    for blended in (False, True):
        if not (blended and strategy == "focal"):
            single = SingleLabel(DataSpec(classes=("a", "b"), class_counts=(9, 1)), label_smoothing=0.1)
            single.set_imbalance_strategy(strategy)
            OBJECTIVES.append((single, torch.full((6, 2), 0.5) if blended else torch.ones(6, dtype=torch.int64)))


@pytest.mark.parametrize(("objective", "target"), OBJECTIVES)
def test_losses_and_predictions_stay_on_their_device(objective: Objective, target: Tensor) -> None:
    objective.to("meta")
    outputs, target = torch.empty(6, objective.num_outputs, device="meta"), target.to("meta")
    assert objective.training_loss(outputs, target).device.type == "meta"
    assert objective.loss(outputs, target).device.type == "meta"
    views = objective.mean_outputs(torch.stack([outputs, outputs]))
    assert {value.device.type for value in objective.predictions(views).values()} == {"meta"}


def test_a_checkpoints_metrics_go_where_the_metrics_are() -> None:
    metrics = MetricCollection({"acc": MulticlassAccuracy(2)})
    states = joined(metrics)
    hand_out(states, metrics.to("meta"), first=True)
    found: dict[str, Any] = metrics["acc"].metric_state
    assert {value.device.type for value in found.values()} == {"meta"}


def test_a_line_is_asked_in_the_arithmetic_and_on_the_device_of_its_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quiet: None
) -> None:
    seen: set[tuple[Any, ...]] = set()
    forward = models.Linear.forward

    def spied(self: Any, numbers: Tensor, categories: Tensor | None = None) -> Tensor:
        weight = self.head.linear.weight
        seen.add((numbers.dtype, numbers.device, weight.dtype, weight.device))
        return forward(self, numbers, categories)

    run = LinearRegression(max_epochs=2, accelerator="cpu", precision="64-true", logger=("csv",))
    monkeypatch.setattr(models.Linear, "forward", spied)
    runner.run(run)
    trained = {kinds for kinds in seen if kinds[2] == torch.float64}
    assert trained == {(torch.float64, torch.device("cpu")) * 2}
