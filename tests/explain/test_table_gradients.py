"""Integrated gradients of columns: captum's own on a network taken apart by hand, exact for a linear one, complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from table_runs import Built, labels, linear_values, number, one_class
from torch import Tensor, nn

from src.configs.errors import InputError
from src.experiment import Optim
from src.explain.methods import unit
from src.explain.subject import Subject
from src.explain.table_gradients import STEPS, integrated_gradients
from src.tasks import Task


def by_hand(network: Any, numbers: Tensor, *embedded: Tensor) -> Tensor:
    """Return what an MLP of one layer makes of numbers and of categories that are embedded already."""
    described = network.piecewise(numbers).flatten(1)
    return network.head(network.norm(network.layers[0](network.stem(torch.cat([described, *embedded], 1)))))


def of_captum(built: Built, example: Any, target: int, steps: int) -> np.ndarray:
    network: Any = built.subject.network
    points = [
        (tensors[0], *(embedding(tensors[1][:, i]) for i, embedding in enumerate(network.embeddings)))
        for tensors in ((built.background.numbers, built.background.categories), example.tensors)
    ]
    ends = tuple(part.expand(len(built.background), -1).detach() for part in points[1])
    starts = tuple(part.detach() for part in points[0])

    def score(*parts: Tensor) -> Tensor:
        outputs = by_hand(network, *parts)
        if built.subject.spec.target.kind != "single_label":
            return outputs[:, target]
        prob = outputs.softmax(1)[:, target]
        return prob.log() - (1 - prob).log()

    found = IntegratedGradients(score).attribute(ends, baselines=starts, n_steps=steps, method="riemann_middle")
    numbers, *embedded = [part.double().mean(0) for part in found]
    return example.of_columns(np.array([*numbers.tolist(), *(float(part.sum()) for part in embedded)]))


def test_those_of_a_class_add_up_to_the_log_odds_of_its_calibrated_probability(houses: Path) -> None:
    """Of two classes, and of three."""
    for built in (one_class(houses), one_class(houses, target="town")):
        subject = Subject(built.subject.task, temperature=1.7)
        (example,) = built.examples([houses])[3:4]
        assert unit("integrated-gradients", subject.spec) == "log-odds"
        for target in range(subject.spec.num_classes):
            (found,) = integrated_gradients(subject, [example], [target])
            rows = built.background.numbers, built.background.categories
            hidden = subject.score(rows, torch.full((len(rows[0]),), target)).double()
            shown = subject.answer(example, target)
            assert 0.001 < shown < 0.999
            gain = np.log(shown / (1 - shown)) - float((hidden / (1 - hidden)).log().mean())
            size = max(abs(gain), np.abs(found.values).sum() / 10)
            assert found.values.sum() == pytest.approx(gain, abs=0.01 * size)


def test_they_are_captums_own_and_complete_for_each_kind_of_target(
    houses: Path, tagged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for built, data, target in (
        (number(houses), houses, 0),
        (one_class(houses), houses, 1),
        (labels(tagged), tagged, 2),
    ):
        chosen = built.examples([data])[3:8]
        for example, found in zip(chosen, integrated_gradients(built.subject, chosen, [target] * 5), strict=True):
            masks = np.array([[True], [False]]).repeat(len(example), 1)
            shown, hidden = built.subject.scores(example, target, masks, raw=True)
            assert found.sums_to == pytest.approx(shown - hidden)
            size = max(abs(found.sums_to or 0), np.abs(found.values).sum() / 10)
            assert found.values.sum() == pytest.approx(found.sums_to, abs=0.01 * size)
        with monkeypatch.context() as patch:
            patch.setattr("src.explain.table_gradients.STEPS", (32,))
            for example, found in zip(chosen, integrated_gradients(built.subject, chosen, [target] * 5), strict=True):
                assert np.abs(found.values).max() > 0.01
                assert found.values == pytest.approx(of_captum(built, example, target, 32), abs=1e-6)
    assert STEPS[0] == 32


def test_the_values_of_a_linear_model_are_exact(houses: Path) -> None:
    linear = number(houses, linear=True)
    chosen = linear.examples([houses])[3:6]
    for example, found in zip(chosen, integrated_gradients(linear.subject, chosen, [0] * 3), strict=True):
        expected = linear_values(linear, example) / linear.subject.spec.target.std
        assert found.values == pytest.approx(expected, abs=1e-5)


class OneHot(nn.Module):
    """A network of the user's own, whose categories no gradient reaches."""

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        return numbers.sum(1, keepdim=True) + categories.sum(1, keepdim=True)


def test_a_network_whose_categories_have_no_gradient_is_told_what_fits(houses: Path) -> None:
    prices = number(houses)
    task = Task(OneHot(), prices.subject.task.objective, prices.subject.task.input, Optim())
    prices.subject.task = task
    with pytest.raises(InputError, match=r"OneHot takes in categories is not known.*--method kernel-shap"):
        integrated_gradients(prices.subject, prices.examples([houses])[:1], [0])
