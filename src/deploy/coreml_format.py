"""Core ML: Apple's engine. A model is made on any system, and runs on macOS and iOS alone."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from src.configs.errors import InputError
from src.deploy.graph import Exportable
from src.deploy.onnx_format import explain, quiet
from src.deploy.parity import Answer
from src.deploy.traced import (
    MAX_BATCH_SIZE,
    bounds,
    described,
    in_order,
    in_plain_order,
    names_in,
    recurrent,
    size_of,
    trace,
)

FILE = "model.mlpackage"
NEEDS = ("coremltools",)
NOT_COVERED = (
    f"batches above {MAX_BATCH_SIZE}, and texts longer than the preparation leaves",
    "the GPU and the neural engine, which compute in float16",
)
CANNOT_RUN = "" if sys.platform == "darwin" else "Core ML runs on macOS alone, and this is none"


class Narrow(Exportable):
    """A graph whose whole numbers and truth values come in as int32, for Core ML takes no other."""

    def __init__(self, graph: Exportable, kinds: Mapping[str, torch.dtype]) -> None:
        super().__init__()
        self.inner, self.kinds = graph, kinds
        self.names, self.input_names, self.axes, self.longest = (
            graph.names,
            graph.input_names,
            graph.axes,
            graph.longest,
        )

    @override
    def answers(self, batches: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return self.inner.answers([{name: self._wide(name, one) for name, one in batch.items()} for batch in batches])

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        names = [self.names[at % len(self.names)] for at in range(len(tensors))]
        return self.inner(*(self._wide(name, one) for name, one in zip(names, tensors, strict=True)))

    def _wide(self, name: str, values: Tensor) -> Tensor:
        return values.bool() if self.kinds[name] == torch.bool else values


def write(graph: Exportable, batches: Sequence[Mapping[str, Tensor]], folder: Path) -> dict[str, Any]:
    """Write a graph as `model.mlpackage`; see `formats.Format.write`."""
    library = _library()
    narrow = Narrow(in_plain_order(graph), {name: batches[0][name].dtype for name in graph.names})
    as_int32 = [{name: _narrow(values) for name, values in batch.items()} for batch in batches]
    description = described(narrow, as_int32)
    program = trace(narrow, as_int32, name="coreml", most=bounds(graph))
    with quiet(), recurrent(), contextlib.redirect_stderr(io.StringIO()):  # of its progress bars
        try:
            program = program.run_decompositions()
            model = library.convert(
                program,
                outputs=[library.TensorType(name=name) for name in description["outputs"]],
                minimum_deployment_target=library.target.iOS17,
                compute_precision=library.precision.FLOAT32,
                compute_units=library.ComputeUnit.CPU_ONLY,
                skip_model_load=bool(CANNOT_RUN),
            )
        except Exception as error:  # of a dozen kinds
            raise InputError(f"--format coreml: {explain(error)}") from error
    spec = model.get_spec().description
    for name, axes, one in zip(graph.input_names, graph.axes, spec.input, strict=True):
        ranges = one.type.multiArrayType.shapeRange.sizeRanges
        if any(axis >= len(ranges) or ranges[axis].lowerBound == ranges[axis].upperBound for axis in axes):
            raise InputError(
                f"--format coreml: the converter has fixed a size of {name} that varies, so the export would hold for "
                "the example that it was made with alone. It is not kept."
            )
    model.save(str(folder / FILE))
    return {
        "takes": f"batches of 1 to {MAX_BATCH_SIZE}",
        "bytes": size_of(folder / FILE),
        **description,
        "feature_names": {name: one.name for name, one in zip(graph.input_names, spec.input, strict=True)},
    }


def answerer(folder: Path, threads: int) -> Answer:
    """Return what answers for a batch by the export in a folder, on the CPU. Its threads are Core ML's own."""
    library = _library()
    model = library.models.MLModel(str(folder / FILE), compute_units=library.ComputeUnit.CPU_ONLY)
    inputs, outputs = names_in(folder)
    features = [one.name for one in model.get_spec().description.input]

    def answer(arrays: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        values = [_narrow(torch.from_numpy(one)).numpy() for one in in_order(arrays, inputs)]
        answers = model.predict(dict(zip(features, values, strict=True)))
        return {name: answers[name] for name in outputs}

    return answer


def _narrow(values: Tensor) -> Tensor:
    return values if values.is_floating_point() else values.int()


def _library() -> Any:
    try:
        with quiet():  # it warns of parts that only macOS has
            import coremltools  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(f"--format coreml: needs coremltools ({error}). pip install -e '.[formats]'") from error
    return coremltools
