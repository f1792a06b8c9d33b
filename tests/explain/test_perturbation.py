"""Methods that hide parts: what they say of networks whose answer is known part by part."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from src.configs.spec import DataSpec, Target
from src.explain.example import Example
from src.explain.perturbation import lime, occlusion
from src.explain.subject import Subject
from src.tasks import Task, inputs, objectives

pytestmark = pytest.mark.usefixtures("quiet")

WEIGHTS = (3.0, -2.0, 0.0, 0.5)
SCALE = 10.0
"""Of the target: a number's score is in its own unit."""


class Switches(Example):
    """Four parts, each there or not."""

    def __init__(self, backgrounds: int = 1) -> None:
        super().__init__("0", ("a", "b", "c", "d"), (torch.ones(1, 4),))
        self.backgrounds = backgrounds

    def hidden(self, kept: np.ndarray) -> tuple[Tensor, ...]:
        return (torch.from_numpy(kept).float().repeat_interleave(self.backgrounds, 0),)


class Sum(nn.Module):
    """Weighs the parts; `together` is what the first two add only when both are there."""

    def __init__(self, together: float = 0.0) -> None:
        super().__init__()
        self.together, self.weights = together, nn.Parameter(torch.tensor(WEIGHTS))

    def forward(self, there: Tensor) -> Tensor:
        return there @ self.weights + self.together * there[:, 0] * there[:, 1]


def subject(network: nn.Module) -> Subject:
    spec = DataSpec(target=Target(kind="regression", std=SCALE))
    return Subject(Task(network, objectives.Regression(spec), inputs.TextInput()))


@pytest.mark.parametrize("backgrounds", [1, 3])
def test_occlusion_is_what_is_lost_without_the_part(backgrounds: int) -> None:
    (found,) = occlusion(subject(Sum(together=4.0)), [Switches(backgrounds)], [0])
    np.testing.assert_allclose(found.values, SCALE * np.array([7.0, 2.0, 0.0, 0.5]), rtol=1e-6)
    assert found.error is None
    assert found.sums_to is None


def test_lime_finds_the_weights_of_a_sum() -> None:
    (found,) = lime(subject(Sum()), [Switches()], [0])
    np.testing.assert_allclose(found.values, SCALE * np.array(WEIGHTS), atol=0.05 * SCALE)  # the ridge shrinks them


def test_masks_that_hide_little_count_most_for_lime() -> None:
    (found,) = lime(subject(Sum(together=4.0)), [Switches()], [0])
    assert found.values[0] > SCALE * 5, "in the mean over all masks it adds 3 + 4 / 2, next to the input 3 + 4"


def test_lime_tells_how_far_another_draw_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = subject(Sum(together=4.0))
    draws = []
    generators = np.random.default_rng
    for first in range(60):
        monkeypatch.setattr(np.random, "default_rng", lambda seed, first=first: generators(first + seed))
        draws += lime(judged, [Switches()], [0])
    spread = np.std([draw.values for draw in draws], 0, ddof=1)
    told = np.sqrt(np.mean([draw.error**2 for draw in draws if draw.error is not None], 0))
    np.testing.assert_allclose(told, spread, rtol=0.3)
    assert (spread[:2] > 0).all()


def test_lime_is_the_same_each_time_and_of_each_input_by_itself() -> None:
    judged = subject(Sum(together=4.0))
    first, second = lime(judged, [Switches(), Switches()], [0, 0])
    np.testing.assert_array_equal(first.values, second.values)


def test_a_single_part_is_explained() -> None:
    class One(Switches):
        def __init__(self) -> None:
            Example.__init__(self, "0", ("a",), (torch.ones(1, 1),))

    class First(nn.Module):
        def forward(self, there: Tensor) -> Tensor:
            return 2 * there[:, 0]

    (hidden,), (weighed,) = (method(subject(First()), [One()], [0]) for method in (occlusion, lime))
    assert hidden.values == pytest.approx([2 * SCALE])
    assert weighed.values[0] > 0
