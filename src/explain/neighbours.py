"""The training examples that a network takes for most like an input: duplicates and wrong labels show among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from src.datamodules import DataModule
from src.datamodules.capabilities import ShowsExamples
from src.explain.example import Example
from src.explain.explanation import Neighbour
from src.explain.subject import AT_ONCE, Subject
from src.resources.files import printable

MOST = 2000
"""Training examples that are looked at, at the most; of more, as many at even distances."""
ALIKE = 0.9999
"""Similarity from which on two examples are one to the network."""
FEWEST = 3
"""Neighbours of which one can be of another class than all others."""


@runtime_checkable
class HasFeatures(Protocol):
    """A network in two parts, the features and the head that reads them."""

    def features(self, *tensors: Tensor) -> Tensor:
        """Return what the head takes, [examples, ...]."""
        ...


class TrainingFeatures:
    """Training examples of a run, as points in the network's features.

    They are taken in random order, so that those seen in part of the time stand for all.

    Args:
        subject: the network; without `features` there are no points, and a note says so.
        datamodule: the run's own data, after `setup`.
        enough: says whether the time is up; one batch at least is looked at.

    Attributes:
        positions: in the training split, int64 [points].
        points: float32 [points, features].
        notes: what was left out.
    """

    def __init__(self, subject: Subject, datamodule: DataModule, enough: Callable[[], bool] = lambda: False) -> None:
        self.datamodule = datamodule
        self.positions, self.points, self.notes = np.zeros(0, np.int64), np.zeros((0, 0), np.float32), list[str]()
        if not isinstance(subject.network, HasFeatures):
            name = type(subject.network).__name__
            self.notes.append(f"no training examples are shown: {name} has no `features` to compare them by")
            return
        count = datamodule.sizes()["train"]
        spread = np.unique(np.linspace(0, count - 1, min(MOST, count)).round().astype(np.int64))
        order = np.random.default_rng(0).permutation(spread)
        dataset: Any = datamodule.dataset("train", train=False)
        found: list[np.ndarray] = []
        for start in range(0, len(order), AT_ONCE):
            if found and enough():
                break
            batch = dataset[order[start : start + AT_ONCE].tolist()]
            found.append(_features(subject, _tensors(subject, batch)))
        self.points = np.concatenate(found)
        self.positions = order[: len(self.points)]
        if len(self.points) < count:
            self.notes.append(f"neighbours are the nearest of {len(self.points):,} of {count:,} training examples")

    def __len__(self) -> int:
        return len(self.positions)

    def tensors(self, subject: Subject, position: int) -> tuple[Tensor, ...]:
        """Return a training example as the network takes it, each [1, ...]."""
        dataset: Any = self.datamodule.dataset("train", train=False)
        return _tensors(subject, dataset[[position]])

    def shown(self, position: int) -> np.ndarray | str:
        """Return a training example as a person reads it: an image, uint8 [height, width, 3], a text, or a row's cells;
        '' where the data show none."""
        if not isinstance(self.datamodule, ShowsExamples):
            return ""
        (example,) = self.datamodule.examples("train", [position])
        return example if isinstance(example, str) else example.expand(3, -1, -1).permute(1, 2, 0).numpy().copy()


def nearest(
    subject: Subject, train: TrainingFeatures, examples: Sequence[Example], count: int = 5
) -> list[tuple[Neighbour, ...]]:
    """Return the training examples that are nearest to each example in the network's features, the nearest first.

    Args:
        subject: the network.
        train: the training examples.
        examples: that are explained.
        count: neighbours of each, fewer where the training has fewer.
    """
    if not len(train) or not len(examples):
        return [()] * len(examples)
    points = np.concatenate([_features(subject, example.tensors) for example in examples])
    count = min(count, len(train))
    search = NearestNeighbors(n_neighbors=count, metric="cosine", algorithm="brute").fit(train.points)
    distances, rows = search.kneighbors(points)
    return [
        _described(subject, train, example, train.positions[near].tolist(), (1 - away).tolist())
        for example, near, away in zip(examples, rows, distances, strict=True)
    ]


def _described(
    subject: Subject, train: TrainingFeatures, example: Example, positions: list[int], similarities: list[float]
) -> tuple[Neighbour, ...]:
    data = train.datamodule
    ids, targets = data.ids("train"), words_of(subject, data.targets("train")[positions])
    odd = odd_one_out(targets) if subject.classes else None
    found: list[Neighbour] = []
    for place, (position, similarity) in enumerate(zip(positions, similarities, strict=True)):
        findings: list[str] = []
        if similarity >= ALIKE:
            same = _equal(example.tensors, train.tensors(subject, position))
            findings.append("the same as the input" if same else "the network can hardly tell it from the input")
        if place == odd:
            others = targets[(place + 1) % len(targets)]
            findings.append(f"labelled {targets[place]}, all others here {others}: perhaps mislabelled")
        name = printable(str(ids[position]))
        shown = train.shown(position)
        found.append(Neighbour(name, targets[place], similarity, shown, "; ".join(findings)))
    return tuple(found)


def words_of(subject: Subject, targets: Tensor) -> list[str]:
    """Return targets [examples, ...] as words: a class, labels, or a number."""
    column = subject.task.objective.target_column(targets.numpy())
    return [f"{value:.6g}" if isinstance(value, float) else str(value) or "nothing" for value in column]


def odd_one_out(targets: Sequence[str]) -> int | None:
    """Return the place of the one target that differs from all others, which are equal; None where there is none."""
    if len(targets) < FEWEST:
        return None
    alone = [place for place, target in enumerate(targets) if targets.count(target) == 1]
    return alone[0] if len(alone) == 1 and len(set(targets)) == 2 else None


def _tensors(subject: Subject, batch: dict[str, Any]) -> tuple[Tensor, ...]:
    dtype = next((p.dtype for p in subject.network.parameters()), torch.float32)
    return subject.task.input.tensors(batch, dtype)


@torch.no_grad()
def _features(subject: Subject, tensors: tuple[Tensor, ...]) -> np.ndarray:
    """Return the features of examples, float32 [examples, features]; of maps the mean. NaN and infinity become 0."""
    network: Any = subject.network
    features: Tensor = network.features(*tensors).float()
    features = features.flatten(2).mean(2) if features.ndim > 2 else features
    return features.nan_to_num(0, 0, 0).numpy()


def _equal(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> bool:
    return all(
        a.shape == b.shape and torch.allclose(a.float(), b.float(), atol=1e-3) for a, b in zip(one, other, strict=True)
    )
