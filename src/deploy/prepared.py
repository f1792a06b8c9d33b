"""A run of Leyden's own parts: its export takes raw inputs, and is checked from the raw input to the answer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from typing_extensions import override

from src.configs.errors import InputError
from src.datamodules.tables.preparation import TablePreparation
from src.deploy import parity
from src.deploy.certificate import PREPARES
from src.deploy.parts import Parts, tensors, validation_examples
from src.deploy.source import Source
from src.deploy.speed import in_turns
from src.deploy.worked import write_examples
from src.inference import exported
from src.resources.files import write_json


class PreparedSource(Source):
    """A run that has been taken apart, with examples of its validation split.

    Raises:
        InputError: the data are gone, or are others by now.
    """

    prepares = True

    def __init__(self, parts: Parts) -> None:
        self.parts, self.run, self.graph = parts, parts.run, parts.graph
        by_quantiles = (isinstance(h, TablePreparation) and h.encoder.scaling == "quantile" for h in parts.preparations)
        self.needs = (*PREPARES, "scikit-learn") if any(by_quantiles) else PREPARES
        self.examples = validation_examples(parts)
        self.read = [how.read(self.examples.raw, []) for how in parts.preparations]
        self.traced = [tensors(one.arrays(traced_keys(len(self.examples))).values) for one in self.read]

    @cached_property
    def expected(self) -> parity.Reference:
        """What PyTorch says of the examples."""
        return parity.reference(self.parts, self.examples, self.read)

    @cached_property
    def saved_predictions(self) -> dict[str, Any]:
        return parity.saved_predictions(self.parts, self.examples, self.expected)

    @override
    def write_beside(self, folder: Path, examples: int) -> int:
        write_preparation(self.parts, folder)
        return write_examples(self.parts, self.examples, self.expected, examples, folder)

    @override
    def parity(self, answer: parity.Answer, folder: Path, name: str) -> dict[str, Any]:
        read = [how.read(self.examples.raw, []) for how in exported.preparations(folder)]
        most = self.parts.graph.objective.spec.input_shape[0]
        compared = parity.compare(read, answer, self.expected, most)
        require_parity(compared, name)
        return compared.to_json() | {"saved_predictions": self.saved_predictions}

    @override
    def speed(self, answer: parity.Answer) -> dict[str, Any]:
        """For texts, the one of middle length."""
        lengths = self.read[0].lengths
        key = 0 if lengths is None else int(np.argsort(lengths)[len(lengths) // 2])
        arrays = [one.arrays([key]).values for one in self.read]
        batches = [tensors(one) for one in arrays]

        def pytorch() -> None:
            with torch.inference_mode():
                self.graph.answers(batches)

        return in_turns(lambda: answer(arrays), pytorch)


def traced_keys(count: int) -> list[int]:
    """Return examples for the exporter to trace; repeated where there are too few."""
    return [position % count for position in range(parity.TRACED)]


def write_preparation(parts: Parts, folder: Path) -> None:
    """Write what the export needs besides its graph."""
    places = [".", *(str(number) for number in range(2, len(parts.preparations) + 1))]
    for place, how in zip(places, parts.preparations, strict=True):
        (folder / place).mkdir(exist_ok=True)
        how.save(folder / place)
    spec = parts.graph.objective.spec
    target = {name: getattr(spec.target, name) for name in ("kind", "name")}
    write_json(folder / exported.MODEL, {"classes": spec.classes, "target": target, "preparations": places})


def require_parity(compared: parity.Parity, name: str) -> None:
    """Raise an InputError where an export does not answer as its run."""
    if compared.holds:
        return
    said: list[str] = []
    if unequal := compared.examples - compared.labels_equal:
        said.append(f"{unequal} of {compared.examples} labels differ")
    if not compared.largest <= parity.BOUND:
        said.append(f"the largest difference is {compared.largest:.2g}, above {parity.BOUND:g}")
    if compared.prepared_differently:
        said.append(f"{compared.prepared_differently} examples are prepared otherwise than in the training")
    raise InputError(
        f"--format {name}: the export does not answer as the run does, and is not kept: {'; '.join(said)} (batches of "
        f"{', '.join(map(str, compared.sizes))}{_of_lengths(compared.lengths)})."
    )


def _of_lengths(lengths: Sequence[int]) -> str:
    return f", texts of {lengths[0]} to {lengths[-1]} tokens" if lengths else ""
