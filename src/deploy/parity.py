"""Whether an export answers as the run does: from the raw file to the answer, on the run's validation split."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from src.configs.errors import InputError
from src.datamodules.preparation import Prepared
from src.deploy.parts import SPLIT, Examples, Parts, tensors
from src.terminal.progress import counted

BOUND = 1e-5
"""Greatest difference of a probability; of a number, as a share of it or of the target's deviation, if that is more."""
SIZES = (1, 2, 5, 32)
"""Batch sizes that are compared; the exporter sees another."""
TRACED = 3
"""The exporter's own."""
FEW = 8
"""Batches of each smaller size; the largest size covers all examples."""

Answer = Callable[[Sequence[dict[str, np.ndarray]]], dict[str, np.ndarray]]
"""Outputs for a batch, as each of the preparations has it."""


class Reference(NamedTuple):
    """What PyTorch says of examples, in float32."""

    values: dict[str, np.ndarray]
    """Output -> [examples, ...]."""
    ties: dict[str, np.ndarray]
    """Decision -> bool [examples, ...], where either outcome counts; see `ties_in`."""
    prepared_differently: int
    """Examples whose preparation is not, to the bit, that of the training."""


class Parity(NamedTuple):
    """How near the answers of an export are to those of its run."""

    examples: int
    labels_equal: int
    """Or tied; see `ties_in`."""
    largest: float
    """Difference; see `BOUND`."""
    sizes: list[int]
    """Of the batches."""
    lengths: list[int]
    """Of the texts in these; empty for other inputs."""
    prepared_differently: int

    @property
    def holds(self) -> bool:
        return self.largest <= BOUND and self.labels_equal == self.examples and not self.prepared_differently

    def to_json(self) -> dict[str, Any]:
        return {
            **self._asdict(),
            "split": SPLIT,
            "from": "raw input to answer",
            "bound": BOUND,
            "against": "PyTorch, float32",
        }


def reference(parts: Parts, examples: Examples, read: Sequence[Prepared]) -> Reference:
    """Return what the run's networks say of the batches of the run's own evaluation, and compare their preparation.

    Args:
        parts: of the run.
        examples: of its validation split.
        read: the same, read by each of the run's preparations.
    """
    values: dict[str, np.ndarray] = {}
    different = 0
    for keys in counted("PyTorch", list(chunks(range(len(examples)), 32))):
        arrays = [one.arrays(keys) for one in read]
        if errors := arrays[0].errors:
            raise InputError(f"{examples.ids[min(errors)]}: {errors[min(errors)]}; it was readable in the training.")
        trained, prepared = examples.batch(keys), tensors(arrays[0].values)
        same = [_same(trained[name], prepared[name]) for name in parts.graph.names]
        different += int(sum(~np.all(same, axis=0)))
        batches = [{name: trained[name] for name in parts.graph.names}, *(tensors(one.values) for one in arrays[1:])]
        with torch.no_grad():
            answers = parts.graph.answers(batches)
        for name, value in answers.items():
            values.setdefault(name, np.zeros((len(examples), *value.shape[1:]), value.numpy().dtype))[keys] = value
    ties = ties_in(values, parts.graph.threshold, parts.graph.thresholds.numpy())
    return Reference(values, ties, different)


def ties_in(values: dict[str, np.ndarray], threshold: float | None, thresholds: np.ndarray) -> dict[str, np.ndarray]:
    """Return which decisions may differ between two answers within `BOUND` of each other: decision -> bool.

    A label is tied where the two likeliest classes are within `2 * BOUND`, since both may move; a decision by a
    threshold where its probability is within `BOUND` of that threshold.

    Args:
        values: output -> [examples, ...].
        threshold: of the second of two classes, if there is one.
        thresholds: of several labels, [labels].
    """
    ties: dict[str, np.ndarray] = {}
    if "label" in values:
        ascending = np.sort(values.get("prob_uncalibrated", values["prob"]), axis=1)
        ties["label"] = ascending[:, -1] - ascending[:, -2] <= 2 * BOUND
    if "label_by_threshold" in values:
        ties["label_by_threshold"] = np.abs(values["prob"][:, 1] - threshold) <= BOUND
    if "labels" in values:
        ties["labels"] = np.abs(values["prob"] - thresholds) <= BOUND
    return ties


def _same(one: torch.Tensor, other: torch.Tensor) -> np.ndarray:
    """Return which examples of two batches are equal to the bit, bool [examples]; padding aside."""
    if one.ndim == 2 and one.shape[1] > other.shape[1]:  # texts that the training pads to one length
        one = one[:, : other.shape[1]]
    if one.shape != other.shape:
        return np.zeros(len(one), bool)
    return (one == other).flatten(1).all(1).numpy() if one[0].numel() else np.ones(len(one), bool)


def compare(prepared: Sequence[Prepared], answer: Answer, expected: Reference, most: int) -> Parity:
    """Return how near the answers for batches of several sizes, and of texts of several lengths, are.

    Args:
        prepared: the raw examples, read by each of the export's preparations.
        answer: what the export says of a batch.
        expected: what PyTorch says.
        most: tokens of a text.
    """
    count, largest = len(prepared[0]), 0.0
    unequal, lengths = set[int](), set[int]()
    for keys in counted("parity", list(batches(count, prepared[0].lengths))):
        arrays = [one.arrays(keys).values for one in prepared]
        wanted = {name: values[keys] for name, values in expected.values.items()}
        ties = {name: there[keys] for name, there in expected.ties.items()}
        right = np.ones(len(keys), bool)
        for batch in [arrays, *lengthened(arrays, most)]:
            if "tokens" in batch[0]:
                lengths.add(batch[0]["tokens"].shape[1])
            answers = answer(batch)
            largest = float(np.maximum(largest, distance(answers, wanted)))  # unlike max, it keeps NaN
            right &= same_decisions(answers, wanted, ties)
        unequal |= {key for key, same in zip(keys, right, strict=True) if not same}
    sizes = [*SIZES[:-1], min(SIZES[-1], count)]
    return Parity(count, count - len(unequal), largest, sizes, sorted(lengths), expected.prepared_differently)


def batches(count: int, lengths: np.ndarray | None) -> Iterator[list[int]]:
    """Yield batches of each size, the smaller ones from all over, or of examples more than once where there are few,
    and all examples in the greatest.

    Of texts, those of one batch are of like length, so that the lengths of the batches range from the shortest to the
    longest.
    """
    order = np.arange(count) if lengths is None else np.argsort(lengths, kind="stable")
    for size in SIZES[:-1]:
        if size > count:
            yield np.resize(order, size).tolist()
            continue
        starts = np.unique(np.linspace(0, count - size, FEW).astype(int))
        for start in starts:
            yield order[start : start + size].tolist()
    yield from chunks(order.tolist(), SIZES[-1])


def lengthened(arrays: Sequence[dict[str, np.ndarray]], most: int) -> Iterator[list[dict[str, np.ndarray]]]:
    """Yield a small batch of texts again with more padding, which changes no answer, so that more lengths are seen."""
    if "tokens" not in arrays[0] or len(arrays[0]["tokens"]) > SIZES[-2]:
        return
    for more in (1, 4):
        if max(batch["tokens"].shape[1] for batch in arrays) + more <= most:
            yield [{name: np.pad(values, ((0, 0), (0, more))) for name, values in batch.items()} for batch in arrays]


def chunks(keys: Sequence[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(keys), size):
        yield list(keys[start : start + size])


def distance(answers: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> float:
    """Return the greatest difference of a probability, or of a number as a share of it or of the numbers' deviation;
    NaN where any difference is."""
    if "prob" in wanted:
        names = [name for name in wanted if name.startswith("prob")]
        return float(np.max([np.abs(answers[name] - wanted[name]).max(initial=0) for name in names]))
    scale = np.maximum(np.maximum(np.abs(wanted["prediction"]), wanted["prediction"].std()), 1e-12)
    return float(np.max([(np.abs(answers[name] - wanted[name]) / scale).max(initial=0) for name in wanted]))


def same_decisions(
    answers: dict[str, np.ndarray], wanted: dict[str, np.ndarray], ties: dict[str, np.ndarray]
) -> np.ndarray:
    """Return whether each example is decided alike, bool [examples]; of a tie, either outcome counts."""
    right = np.ones(len(next(iter(wanted.values()))), bool)
    for name, tied in ties.items():
        same = (answers[name] == wanted[name]) | tied
        right &= same if same.ndim == 1 else same.all(1)
    return right


def saved_predictions(parts: Parts, examples: Examples, expected: Reference) -> dict[str, Any]:
    """Return how near the predictions that the run itself has saved are to PyTorch's in float32."""
    path = parts.run / f"predictions_{SPLIT}.csv"
    if not path.is_file():
        return {}
    with open(path, encoding="utf-8", newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    places, kept = [], []
    for place, name in enumerate(examples.ids):
        if name in rows:
            places.append(place)
            kept.append(rows[name])
    values, classes = expected.values, parts.graph.objective.spec.classes
    precision = str(parts.record.get("precision", "?"))
    if "prob" in values:
        raw = values.get("prob_uncalibrated", values["prob"])[places]
        saved = np.array([[float(row[f"prob_{name}"]) for name in classes] for row in kept])
        result: dict[str, Any] = {"largest": float(np.abs(raw - saved).max(initial=0))}
        if "label" in values:
            names = [classes[label] for label in values["label"][places]]
            result["labels_equal"] = sum(row["label"] == name for row, name in zip(kept, names, strict=True))
    else:
        saved = np.array([float(row["prediction"]) for row in kept])
        result = {"largest": distance({"prediction": values["prediction"][places]}, {"prediction": saved})}
    return {"examples": len(places), "precision": precision, **result}
