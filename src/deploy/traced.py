"""A graph as torch.export has it, for the formats that are made of that."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export._patches import (  # private, but all there is: the exporter of ONNX takes them too
    register_gru_while_loop_decomposition,
    register_lstm_while_loop_decomposition,
)

from src.configs.errors import InputError
from src.datamodules.preparation import read_json
from src.deploy.graph import Exportable, Graph
from src.deploy.onnx_format import arguments, explain, quiet, recurrence_left_open, shapes
from src.inference.exported import CERTIFICATE, name_of
from src.tasks.inputs import ImageInput

MAX_BATCH_SIZE = 32
"""Examples of a batch, in formats that plan their memory beforehand."""


def trace(
    graph: Exportable,
    batches: Sequence[Mapping[str, Tensor]],
    *,
    name: str,
    most: Mapping[str, int] | None = None,
) -> torch.export.ExportedProgram:
    """Return a graph as torch.export has it.

    Args:
        graph: in evaluation mode.
        batches: see `Format.write`.
        name: of the format, for errors.
        most: name of an axis -> its greatest size, where the format has to know; else any.

    Raises:
        InputError: the graph cannot be traced.
    """
    args = tuple(tensor.clone(memory_format=torch.contiguous_format) for tensor in arguments(graph, batches))
    with quiet(), recurrent():
        try:
            return torch.export.export(graph, args, dynamic_shapes=(shapes(graph, most),))
        except Exception as error:  # torch.export raises a dozen kinds
            raise InputError(f"--format {name}: {explain(error)}") from error


@contextlib.contextmanager
def recurrent() -> Iterator[None]:
    """Trace an LSTM or a GRU as a loop, as `torch.onnx.export` does; else it is unrolled, for one length alone."""
    with recurrence_left_open(), register_lstm_while_loop_decomposition(), register_gru_while_loop_decomposition():
        yield


def bounds(graph: Exportable) -> dict[str, int]:
    """Return the greatest size of each axis that varies."""
    return {"batch": MAX_BATCH_SIZE, **graph.longest}


def in_plain_order(graph: Exportable) -> Exportable:
    """Return a copy whose tensors lie in memory in the order of their axes, which some formats take for granted."""
    copied = copy.deepcopy(graph)
    for parameter in copied.parameters():
        parameter.data = parameter.data.contiguous()
    for task in copied.tasks if isinstance(copied, Graph) else ():
        if isinstance(kind := task.input, ImageInput):
            kind.memory_format = torch.contiguous_format
    return copied


def described(graph: Exportable, batches: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
    """Return the inputs and outputs of a graph, as the certificate has them."""
    inputs = {
        name: {"type": _type(tensor), "shape": [axes.get(axis, side) for axis, side in enumerate(tensor.shape)]}
        for name, tensor, axes in zip(graph.input_names, arguments(graph, batches), graph.axes, strict=True)
    }
    with torch.no_grad():
        answers = graph.answers(batches)
    outputs = {name: {"type": _type(answer), "shape": ["batch", *answer.shape[1:]]} for name, answer in answers.items()}
    return {"inputs": inputs, "outputs": outputs}


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def names_in(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of an export's inputs and outputs, in order."""
    model = read_json(folder / CERTIFICATE)["model"]
    return list(model["inputs"]), list(model["outputs"])


def in_order(arrays: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[np.ndarray]:
    """Return a batch, as each of the preparations has it, as the arguments of a graph."""
    feeds = {name_of(name, at): values for at, batch in enumerate(arrays) for name, values in batch.items()}
    return [np.array(feeds[name], order="C") for name in names]


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files of a folder."""
    return sum(one.stat().st_size for one in [path, *path.rglob("*")] if one.is_file())
