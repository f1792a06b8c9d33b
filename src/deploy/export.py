"""From a run to an export: graph, preparation, worked examples and a certificate, or an error and nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from src.configs.errors import InputError
from src.deploy import onnx_format, parity
from src.deploy.certificate import certificate, licences, requirements, show
from src.deploy.parts import Examples, Parts, take_apart, tensors, validation_examples
from src.deploy.speed import in_turns
from src.deploy.worked import write_examples
from src.inference import exported
from src.resources.files import atomic_write, write_json


def export(run: Path, *, examples: int = 8) -> Path:
    """Export a run as ONNX beside its preparation, checked from the raw file to the answer; return the folder.

    What was exported before is replaced once the new one has held.

    Args:
        run: one that is done; a cross-validation or an ensemble becomes one graph, which averages.
        examples: of validation that go along with their answers.

    Raises:
        InputError: the run cannot be exported, or its export does not answer as it does.
    """
    parts = take_apart(run)
    checked = validation_examples(parts)
    folder = run / "export" / "onnx"
    building = folder.with_name(f".onnx-{os.getpid()}")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        found = _build(parts, checked, building, examples)
        replace(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    show(found, folder)
    return folder


def _build(parts: Parts, checked: Examples, folder: Path, examples: int) -> dict[str, Any]:
    """Write all files of an export to a folder, check it, and return its certificate."""
    read = [how.read(checked.raw, []) for how in parts.preparations]
    traced = [tensors(one.arrays(traced_keys(len(checked))).values) for one in read]
    model = onnx_format.write(parts.graph, traced, folder)
    write_preparation(parts, folder)
    expected = parity.reference(parts, checked)
    worked = write_examples(parts, checked, expected, examples, folder)
    atomic_write(folder / "requirements.txt", requirements())
    atomic_write(folder / "LICENCES.md", licences(parts))
    found = certificate(parts, "onnx", folder) | {"model": model, "worked_examples": worked}
    write_json(folder / exported.CERTIFICATE, found)
    made = exported.load(folder)
    most = parts.graph.objective.spec.input_shape[0]
    compared = parity.compare(made.read(checked.raw, []), made.run, expected, most)
    require_parity(compared, "onnx")
    found["parity"] = compared.to_json() | {"saved_predictions": parity.saved_predictions(parts, checked, expected)}
    found["speed"] = measured(parts, checked, folder)
    write_json(folder / exported.CERTIFICATE, found)
    return found


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


def require_parity(found: parity.Parity, name: str) -> None:
    """Raise an InputError where an export does not answer as its run."""
    if found.holds:
        return
    said: list[str] = []
    if unequal := found.examples - found.labels_equal:
        said.append(f"{unequal} of {found.examples} labels differ")
    if found.largest > parity.BOUND:
        said.append(f"the largest difference is {found.largest:.2g}, above {parity.BOUND:g}")
    if found.prepared_differently:
        said.append(f"{found.prepared_differently} examples are prepared otherwise than in the training")
    raise InputError(
        f"--format {name}: the export does not answer as the run does, and is not kept: {'; '.join(said)} (batches of "
        f"{', '.join(map(str, found.sizes))}{_of_lengths(found.lengths)})."
    )


def _of_lengths(lengths: Sequence[int]) -> str:
    return f", texts of {lengths[0]} to {lengths[-1]} tokens" if lengths else ""


def measured(parts: Parts, checked: Examples, folder: Path) -> dict[str, Any]:
    """Return how fast the export answers for one example, of middle length, against PyTorch."""
    single = exported.load(folder, threads=1)
    read = single.read(checked.raw, [])
    lengths = read[0].lengths
    key = 0 if lengths is None else int(np.argsort(lengths)[len(lengths) // 2])
    arrays = [one.arrays([key]).values for one in read]
    batches = [tensors(one) for one in arrays]

    def pytorch() -> None:
        with torch.inference_mode():
            parts.graph.answers(batches)

    return in_turns(lambda: single.run(arrays), pytorch)


def replace(made: Path, folder: Path) -> None:
    """Put a finished folder in the place of another; a reader sees one of the two, or for a moment none."""
    old = made.with_name(f"{made.name}-old")
    if folder.exists():
        folder.rename(old)
    made.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
