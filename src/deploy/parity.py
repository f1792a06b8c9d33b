"""Whether an export answers as the run does: from the raw file to the answer, on the run's validation split."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from src.configs.errors import InputError
from src.datamodules.preparation import Prepared
from src.deploy.parts import SPLIT, Examples, Parts, tensors

BOUND = 1e-5
"""Greatest difference of a probability; of a number, as a share of it or of the target's deviation, if that is more."""
SIZES = (1, 2, 5, 32)
"""Batch sizes that are compared; the exporter sees another."""
TRACED = 3
"""The exporter's own."""
FEW = 8
"""Batches of each of the smaller sizes; the rest of the examples comes in the greatest."""

Answer = Callable[[Sequence[dict[str, np.ndarray]]], dict[str, np.ndarray]]
"""Outputs for a batch, as each of the preparations has it."""


class Reference(NamedTuple):
    """What PyTorch says of examples, in float32."""

    values: dict[str, np.ndarray]
    """Output -> [examples, ...]."""
    prepared_differently: int
    """Examples whose preparation is not, to the bit, that of the training."""


class Parity(NamedTuple):
    """How near the answers of an export are to those of its run."""

    examples: int
    labels_equal: int
    """Or where two classes are nearer than `BOUND`."""
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


def reference(parts: Parts, examples: Examples) -> Reference:
    """Return what the run's networks say of the batches of the run's own evaluation, and compare their preparation."""
    read = [how.read(examples.raw, []) for how in parts.preparations]
    values: dict[str, np.ndarray] = {}
    different = 0
    for keys in chunks(range(len(examples)), 32):
        arrays = [one.arrays(keys) for one in read]
        if errors := arrays[0].errors:
            raise InputError(f"{examples.ids[min(errors)]}: {errors[min(errors)]}; it was readable in the training.")
        trained, prepared = examples.batch(keys), tensors(arrays[0].values)
        same = [_same(trained[name], prepared[name]) for name in parts.graph.names]
        different += int(sum(~np.all(same, axis=0)))
        batches = [{name: trained[name] for name in parts.graph.names}, *(tensors(one.values) for one in arrays[1:])]
        with torch.no_grad():
            found = parts.graph.answers(batches)
        for name, value in found.items():
            values.setdefault(name, np.zeros((len(examples), *value.shape[1:]), value.numpy().dtype))[keys] = value
    return Reference(values, different)


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
    largest, equal, seen = 0.0, set[int](), set[int]()
    lengths = set[int]()
    for keys in batches(len(prepared[0]), prepared[0].lengths):
        arrays = [one.arrays(keys).values for one in prepared]
        wanted = {name: values[keys] for name, values in expected.values.items()}
        right = np.ones(len(keys), bool)
        for batch in [arrays, *lengthened(arrays, most)]:
            if "tokens" in batch[0]:
                lengths.add(batch[0]["tokens"].shape[1])
            found = answer(batch)
            largest = max(largest, distance(found, wanted))
            right &= same_decisions(found, wanted)
        first = {key for key in keys if key not in seen}
        seen |= first
        equal |= {key for key, there in zip(keys, right, strict=True) if there and key in first}
        equal -= {key for key, there in zip(keys, right, strict=True) if not there}
    sizes = [*SIZES[:-1], min(SIZES[-1], len(prepared[0]))]
    return Parity(len(seen), len(equal), largest, sizes, sorted(lengths), expected.prepared_differently)


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


def distance(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> float:
    """Return the greatest difference of a probability, or of a number as a share of it or of the numbers' deviation."""
    if "prob" in wanted:
        names = [name for name in wanted if name.startswith("prob")]
        return max(float(np.abs(found[name] - wanted[name]).max(initial=0)) for name in names)
    scale = np.maximum(np.abs(wanted["prediction"]), wanted["prediction"].std())
    return max(float((np.abs(found[name] - wanted[name]) / np.maximum(scale, 1e-12)).max(initial=0)) for name in wanted)


def same_decisions(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> np.ndarray:
    """Return whether each example is decided alike, bool [examples]; where two classes are as near as `BOUND`, or a
    probability is as near to a threshold, either decision counts."""
    if "prob" not in wanted:
        return np.ones(len(wanted["prediction"]), bool)
    right = np.ones(len(wanted["prob"]), bool)
    for name in ("label", "label_by_threshold", "labels"):
        if name in wanted:
            equal = found[name] == wanted[name]
            right &= equal if equal.ndim == 1 else equal.all(1)
    if right.all():
        return right
    near = np.abs(found["prob"] - wanted["prob"]).max(1) <= BOUND
    prob = np.sort(wanted["prob"], axis=1)
    tied = prob[:, -1] - prob[:, -2] <= 2 * BOUND if "label" in wanted else np.zeros(len(prob), bool)
    return right | (near & tied)


def saved_predictions(parts: Parts, examples: Examples, expected: Reference) -> dict[str, Any]:
    """Return how near the predictions that the run itself has saved are to PyTorch's in float32."""
    path = Path(parts.run) / f"predictions_{SPLIT}.csv"
    if not path.is_file():
        return {}
    with open(path, encoding="utf-8", newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    places = [place for place, name in enumerate(examples.ids) if name in rows]
    kept = [rows[examples.ids[place]] for place in places]
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
