"""Nearest neighbours against scikit-learn's, and what they do where that has no answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from torch import Tensor
from torch.nn import functional as F

from src.experiment import DataSpec, InputError, Neighbours, TargetKind
from src.models import CNN, Linear, NearestNeighbours

SPEC = DataSpec(numbers=3, categories=(4,))


def rows(count: int, seed: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, generator=draw), torch.randint(0, 4, (count, 1), generator=draw)


def voting(kind: TargetKind, outputs: int, **fields: Any) -> NearestNeighbours:
    return NearestNeighbours(Linear(SPEC, outputs), outputs, kind, Neighbours(**fields))


@torch.no_grad()
def answers(network: NearestNeighbours, kind: TargetKind, outputs: int, *inputs: Tensor, **fields: Any) -> Tensor:
    """Return the outputs of another network with the state of this one."""
    other = voting(kind, outputs, **fields)
    other.load_state_dict(network.state_dict())
    found = other.eval()(*inputs)
    assert torch.equal(found, network.eval()(*inputs))
    return found


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_votes_are_scikit_learns_with_the_training_shares_as_one_vote_more(distance: Any) -> None:
    inputs, new = rows(200, 0), rows(50, 1)
    target = (inputs[0].sum(1) + inputs[1][:, 0] > 1.5).long()
    fields = {"count": 7, "distance": distance}
    network = voting("single_label", 3, **fields)
    line = network.head.fit(network.features(*inputs), target)
    assert line == "all 200 training examples vote, the nearest 7 on each input"
    encoded, asked = (network.features(*part).numpy() for part in (inputs, new))
    if distance == "cosine":  # the distance of unit vectors orders them as the cosine does
        encoded, asked = unit(encoded), unit(asked)
    model = KNeighborsClassifier(7, weights="distance").fit(encoded, target.numpy())
    prob = answers(network, "single_label", 3, *new, **fields).softmax(1).numpy()
    votes = np.hstack([model.predict_proba(asked), np.zeros((50, 1))])
    prior = (np.bincount(target.numpy(), minlength=3) + 0.5) / 201
    expected = (7 * votes + prior) / 8
    np.testing.assert_allclose(prob, expected / expected.sum(1, keepdims=True), atol=1e-5)
    own = network(*inputs).softmax(1)
    assert (own.argmax(1) == target).all(), "an example at no distance outvotes all others"
    assert own.isfinite().all()


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_numbers_and_labels_are_scikit_learns() -> None:
    inputs, new = rows(150, 0), rows(40, 1)
    score = inputs[0].sum(1)
    network = voting("regression", 1)
    network.head.fit(network.features(*inputs), score)
    encoded, asked = (network.features(*part).numpy() for part in (inputs, new))
    expected = KNeighborsRegressor(10, weights="distance").fit(encoded, score.numpy()).predict(asked)
    np.testing.assert_allclose(answers(network, "regression", 1, *new)[:, 0], expected, atol=1e-4)
    target = torch.stack([score > 0, score > 1, score > -9], 1).float()
    network = voting("multi_label", 3)
    network.head.fit(network.features(*inputs), target)
    votes = KNeighborsRegressor(10, weights="distance").fit(encoded, target.numpy()).predict(asked)
    prior = (target.numpy().sum(0) + 0.5) / 151
    prob = answers(network, "multi_label", 3, *new).sigmoid()
    np.testing.assert_allclose(prob, (10 * votes + prior) / 11, atol=1e-5)


def test_few_examples_all_vote_and_of_too_many_some_are_drawn() -> None:
    inputs, target = rows(6, 0), torch.arange(6) % 2
    network = voting("single_label", 2)
    line = network.head.fit(network.features(*inputs), target)
    assert line.endswith("the nearest 6 on each input")
    assert network(*inputs).shape == (6, 2)
    network = voting("single_label", 2, most=4, count=2)
    line = network.head.fit(network.features(*inputs), target)
    assert line == "4 of 6, drawn at random, training examples vote, the nearest 2 on each input"
    own, there = network.features(*inputs), network.head.points
    assert len(there) == 4
    assert all((own == point).all(1).any() for point in there)


def test_rare_classes_may_count_more() -> None:
    inputs, target = rows(100, 0), (torch.arange(100) < 10).long()
    network = voting("single_label", 2, count=100)
    network.head.fit(network.features(*inputs), target)
    before = network(*rows(20, 1)).softmax(1)[:, 1].mean()
    network.head.fit(network.features(*inputs), target, torch.tensor([100 / 180, 5.0]))
    assert network(*rows(20, 1)).softmax(1)[:, 1].mean().item() == pytest.approx(0.5, abs=0.1)
    assert before < 0.2


def test_it_takes_the_features_of_any_network_and_leaves_that_alone() -> None:
    images, target = torch.rand(12, 3, 32, 32), torch.arange(12) % 3
    cnn = CNN(3, widths=(8, 16)).eval()
    features = cnn.features(images)
    network = NearestNeighbours(cnn, 3, "single_label", Neighbours(count=2, distance="cosine")).eval()
    network.head.fit(features, target)
    torch.testing.assert_close(network.head.points, F.normalize(features.detach()))
    assert (network(images).argmax(1) == target).all()
    own = {id(p) for group in network.layer_groups() for p in group}
    assert own == {id(p) for p in network.parameters()}
    assert not any(name.startswith("network.head") for name in network.state_dict())


def test_several_numbers_and_infinite_features_are_refused() -> None:
    with pytest.raises(InputError, match="--loss: nearest neighbours predict a mean"):
        voting("regression", 3)
    with pytest.raises(InputError, match=r"--neighbours\.count 0: at least 1"):
        Neighbours(count=0)
    with pytest.raises(InputError, match="not all finite"):
        voting("regression", 1).head.fit(torch.full((3, 7), torch.inf), torch.zeros(3))
