"""The curves of random orders, which the page draws beside those of the explanations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typing_extensions import override

from src.configs.spec import DataSpec
from src.explain.example import Example
from src.explain.faithfulness import faithfulness
from src.explain.method import Attribution
from src.explain.subject import Subject
from src.tasks import Task
from src.tasks.inputs import PlainInput
from src.tasks.objectives import SingleLabel


class Sum(nn.Module):
    """Class 1 the likelier, the larger the first numbers are."""

    def forward(self, numbers: Tensor) -> Tensor:
        score = numbers @ torch.linspace(1, 0, numbers.shape[1]) ** 4
        return torch.stack([-score, score], 1)


class Numbers(Example):
    """Ten ones; a hidden one is minus one."""

    def __init__(self) -> None:
        super().__init__("ones", tuple("abcdefghij"), (torch.ones(1, 10),))

    @override
    def hidden(self, kept: np.ndarray) -> tuple[Tensor, ...]:
        return (torch.from_numpy(2.0 * kept - 1).float(),)


def test_random_orders_have_curves_between_those_of_the_explanations() -> None:
    spec = DataSpec(classes=("low", "high"), class_counts=(1, 1))
    subject = Subject(Task(Sum(), SingleLabel(spec), PlainInput()))
    examples = [Numbers() for _ in range(30)]
    found = faithfulness(subject, examples, [1] * 30, [Attribution(np.arange(10.0)[::-1])] * 30)
    assert found
    assert found.gain > found.random
    between = np.subtract(found.random_insertion, found.random_deletion)
    assert found.random == pytest.approx(np.trapezoid(between, dx=1 / (len(between) - 1)))
    assert found.random_insertion[0] == found.insertion[0] == pytest.approx(found.deletion[-1])
    assert found.random_insertion[-1] == found.insertion[-1] == pytest.approx(found.deletion[0])
    half = len(between) // 2
    assert found.random_insertion[half] < found.insertion[half]
    assert found.random_deletion[half] > found.deletion[half]
