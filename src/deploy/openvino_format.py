"""OpenVINO: Intel's own engine, for its processors and what is built into them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch import Tensor

from src.configs.errors import InputError
from src.deploy import onnx_format
from src.deploy.graph import Exportable
from src.deploy.parity import Answer
from src.deploy.traced import described, in_order, names_in

FILE, WEIGHTS = "model.xml", "model.bin"
NEEDS = ("openvino",)
FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32"}
NOT_COVERED = (
    "other devices than the CPU",
    "bfloat16, which OpenVINO takes where the processor has it, unless INFERENCE_PRECISION_HINT is f32, as here",
)
CANNOT_RUN = ""


def write(graph: Exportable, batches: Sequence[Mapping[str, Tensor]], folder: Path) -> dict[str, Any]:
    """Write a graph as `model.xml` and `model.bin`, by way of ONNX; see `formats.Format.write`."""
    openvino = _library()
    with TemporaryDirectory() as made:
        onnx_format.write(graph, batches, Path(made))
        try:  # `convert_model` reads ONNX by the same frontend, and reports to its makers that it was called
            model = openvino.Core().read_model(Path(made) / onnx_format.FILE)
        except Exception as error:  # of openvino's own kinds
            raise InputError(f"--format openvino: it cannot read the graph: {str(error).strip()[:300]}") from error
        openvino.save_model(model, folder / FILE, compress_to_fp16=False)
    size = sum((folder / name).stat().st_size for name in (FILE, WEIGHTS))
    return {"takes": "any batch", "bytes": size, "properties": FLOAT32, **described(graph, batches)}


def answerer(folder: Path, threads: int) -> Answer:
    """Return what answers for a batch by the export in a folder; see `formats.Format.answerer`."""
    properties = FLOAT32 | ({"INFERENCE_NUM_THREADS": threads} if threads else {})
    compiled = _library().Core().compile_model(folder / FILE, "CPU", properties)
    inputs, outputs = names_in(folder)
    there = {name for node in compiled.inputs for name in node.names}  # what the graph does not use is left out

    def answer(arrays: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        values = dict(zip(inputs, in_order(arrays, inputs), strict=True))
        answers = compiled({name: array for name, array in values.items() if name in there})
        return {name: answers[position] for position, name in enumerate(outputs)}  # names may be joined

    return answer


def _library() -> Any:
    try:
        import openvino  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(f"--format openvino: needs openvino ({error}). pip install -e '.[formats]'") from error
    return openvino
