"""What an export computes: networks, their views, the mean over members, temperature and thresholds in one module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from src.inference.exported import name_of
from src.tasks import Task
from src.tasks.objectives.calibration import LEAST

TEXTS = ("tokens", "mask")
"""Inputs [batch, length]."""


class Exportable(nn.Module):
    """What a format writes: a network whose arguments are tensors alone. A subclass is one way to make it of a run."""

    names: Sequence[str]
    """What a batch of one preparation has, in order."""
    input_names: list[str]
    """Of the arguments."""
    axes: list[dict[int, str]]
    """Of each argument the axes that vary: position -> name. Axes of one name are of one size."""
    longest: dict[str, int]
    """Name of an axis -> its greatest size, where there is one."""

    def answers(self, batches: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Return the outputs by name for a batch, as each of the preparations has it."""
        raise NotImplementedError


class Graph(Exportable):
    """Maps prepared inputs to answers, in float32.

    For one class these are 'prob', calibrated, and 'label', the position of the likeliest class; for several labels
    'prob' and 'labels', those that reach their threshold; for a number 'prediction' and maybe 'lower' and 'upper'.
    Where there are a temperature and a threshold, 'prob_uncalibrated' and 'label_by_threshold' follow.

    Args:
        tasks: with their weights; the prediction is the mean of theirs.
        preparation_of: for each task the position of its preparation.
        names: what a batch of one preparation has, in order, such as tokens and mask.
        calibration: of the run, as its record has it.
        longest: tokens of the longest text that the preparation leaves; 0 for other inputs.
        shares: of the tasks in the mean; None: all the same.
    """

    thresholds: Tensor

    def __init__(
        self,
        tasks: Sequence[Task],
        preparation_of: Sequence[int],
        names: Sequence[str],
        calibration: Mapping[str, Any],
        longest: int = 0,
        shares: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.tasks = nn.ModuleList(tasks)
        self.shares = shares or [1 / len(tasks)] * len(tasks)
        self.preparation_of, self.names, self.objective = preparation_of, names, tasks[0].objective
        places = [(name, at) for at in range(max(preparation_of) + 1) for name in names]
        self.input_names = [name_of(name, at) for name, at in places]
        self.axes = [{0: "batch"} | ({1: name_of("length", at)} if name in TEXTS else {}) for name, at in places]
        self.longest = {name: longest for axes in self.axes for name in axes.values() if name != "batch"}
        self.temperature = float(calibration.get("temperature", 1.0))
        self.threshold: float | None = calibration.get("threshold")
        chosen = calibration.get("thresholds", {})
        thresholds = [chosen.get(name, 0.5) for name in self.objective.spec.classes]
        self.register_buffer("thresholds", torch.tensor(thresholds, dtype=torch.float64), persistent=False)
        self.requires_grad_(False).float().eval()

    @override
    def answers(self, batches: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        each = [
            task.objective.predictions(task({**batches[at]}).float())  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
            for task, at in zip(self.tasks, self.preparation_of, strict=True)
        ]
        predicted = each[0]
        if len(each) > 1:
            shared = list(zip(self.shares, each, strict=True))
            predicted = {name: torch.stack([share * one[name] for share, one in shared]).sum(0) for name in predicted}
        match self.objective.spec.target.kind:
            case "single_label":
                return self._classes(predicted["prob"])
            case "multi_label":
                return {**predicted, "labels": predicted["prob"] >= self.thresholds}
            case "regression":
                return predicted

    def _classes(self, prob: Tensor) -> dict[str, Tensor]:
        after = prob
        if self.temperature != 1:
            after = (prob.double().clamp(min=LEAST).log() / self.temperature).softmax(1).float()
        answers = {"prob": after, "label": prob.argmax(1)}
        if self.temperature != 1:
            answers["prob_uncalibrated"] = prob
        if self.threshold is not None:
            answers["label_by_threshold"] = (after[:, 1].double() >= self.threshold).long()
        return answers

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the answers for tensors [batch, ...], in the order of `input_names`."""
        count = len(self.names)
        parts = [tensors[start : start + count] for start in range(0, len(tensors), count)]
        return tuple(self.answers([dict(zip(self.names, part, strict=True)) for part in parts]).values())
