"""The training examples that a network takes for most like an input: duplicates and wrong labels show among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from src import data_checks
from src.datamodules import DataModule, Table
from src.datamodules.capabilities import ShowsExamples
from src.datamodules.tables.cells import words
from src.explain.alike import nearly_alike
from src.explain.example import Example
from src.explain.explanation import Neighbour
from src.explain.subject import AT_ONCE, Subject
from src.explain.wording import cell
from src.resources.files import printable

MOST = 2000
"""Training examples that are looked at, at the most; of more, as many at even distances."""
ALIKE = 0.9999
"""Similarity from which on two examples are one to the network."""
OWN = 5
"""Nearest training examples of a training example that its label is compared with."""
FEWEST = 3
"""Of them, the fewest that say anything."""


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
        checked: id -> what the data check said of a training example; empty where it has not seen these data.
        positions: in the training split, int64 [points].
        points: float32 [points, features].
        notes: what was left out.
    """

    def __init__(self, subject: Subject, datamodule: DataModule, enough: Callable[[], bool] = lambda: False) -> None:
        self.datamodule = datamodule
        self.positions, self.points, self.notes = np.zeros(0, np.int64), np.zeros((0, 0), np.float32), list[str]()
        self.checked: dict[str, str] = {}
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
        checked = data_checks.kept.of_training(datamodule)
        self.checked |= checked or {}
        if checked is None:
            self.notes.append(
                "scripts/check_data.py has not seen these data: what it finds wrong with a training example would "
                "stand beside it"
            )
        if len(self.points) < count:
            self.notes.append(f"neighbours are the nearest of {len(self.points):,} of {count:,} training examples")

    def __len__(self) -> int:
        return len(self.positions)

    def tensors(self, subject: Subject, position: int) -> tuple[Tensor, ...]:
        """Return a training example as the network takes it, each [1, ...]."""
        dataset: Any = self.datamodule.dataset("train", train=False)
        return _tensors(subject, dataset[[position]])

    def shown(self, position: int) -> np.ndarray | str:
        """Return a training example as a person reads it: an image, uint8 [height, width, 3], a text, or a row's cells,
        whose numbers are shortened; '' where the data show none."""
        if isinstance(self.datamodule, Table):
            (frame,) = self.datamodule.raw_inputs("train", [position])
            row = pa.Table.from_pandas(frame, preserve_index=False)
            return ", ".join(f"{name} {cell(words(row[name])[0])}" for name in row.column_names)
        if not isinstance(self.datamodule, ShowsExamples):
            return ""
        (example,) = self.datamodule.examples("train", [position])
        return example if isinstance(example, str) else example.expand(3, -1, -1).permute(1, 2, 0).numpy().copy()


def nearest(
    subject: Subject, train: TrainingFeatures, examples: Sequence[Example], count: int = 5
) -> list[tuple[Neighbour, ...]]:
    """Return the training examples that are nearest to each example in the network's features, the nearest first.

    Where a class is predicted, a training example is held to be mislabelled if its own nearest training examples are
    all of one other class; those of the input say nothing of it, since an input that is hard lies between classes.

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
    doubtful = _mislabelled(subject, train, search, np.unique(rows)) if subject.classes else {}
    return [
        _described(subject, train, example, near.tolist(), (1 - away).tolist(), doubtful)
        for example, near, away in zip(examples, rows, distances, strict=True)
    ]


def _mislabelled(
    subject: Subject, train: TrainingFeatures, search: NearestNeighbors, rows: np.ndarray
) -> dict[int, str]:
    """Return those of some points whose nearest others are all of one other class -> what is said of them."""
    count = min(OWN, len(train) - 1)
    if count < FEWEST:
        return {}
    _, near = search.kneighbors(train.points[rows], n_neighbors=count + 1)
    targets = words_of(subject, train.datamodule.targets("train")[train.positions])
    found: dict[int, str] = {}
    for row, its in zip(rows.tolist(), near.tolist(), strict=True):
        others = {targets[other] for other in [other for other in its if other != row][:count]}
        if len(others) == 1 and targets[row] not in others:
            found[row] = f"labelled {targets[row]}, all training examples nearest to it {others.pop()}"
    return found


def _described(
    subject: Subject,
    train: TrainingFeatures,
    example: Example,
    rows: list[int],
    similarities: list[float],
    doubtful: dict[int, str],
) -> tuple[Neighbour, ...]:
    data = train.datamodule
    positions = train.positions[rows].tolist()
    ids, targets = data.ids("train"), words_of(subject, data.targets("train")[positions])
    shown = [train.shown(position) for position in positions]
    nearly = nearly_alike(data, example, shown)
    found: list[Neighbour] = []
    for place, (row, position, similarity) in enumerate(zip(rows, positions, similarities, strict=True)):
        findings: list[str] = []
        if similarity >= ALIKE and _equal(example.tensors, train.tensors(subject, position)):
            findings.append("the same as the input")
        elif place in nearly:
            findings.append(f"nearly a copy of the input: {nearly[place]}")
        elif similarity >= ALIKE:
            findings.append("the network can hardly tell it from the input")
        if row in doubtful:
            findings.append(f"{doubtful[row]}: perhaps mislabelled")
        if said := train.checked.get(str(ids[position])):
            findings.append(f"data check: {said}")
        name = printable(str(ids[position]))
        found.append(Neighbour(name, targets[place], similarity, shown[place], "; ".join(findings)))
    return tuple(found)


def words_of(subject: Subject, targets: Tensor) -> list[str]:
    """Return targets [examples, ...] as words: a class, labels, or a number."""
    column = subject.task.objective.target_column(targets.numpy())
    return [f"{value:.6g}" if isinstance(value, float) else str(value) or "nothing" for value in column]


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
