"""ONNX: the format that Leyden itself predicts with and serves."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.configs.errors import InputError
from src.deploy.graph import Exportable
from src.deploy.parity import Answer
from src.inference import exported
from src.inference.exported import GRAPH

OPSET = 20
"""Of ONNX 1.15; the exporter's own would ask for a newer onnxruntime than users have."""
FILE = GRAPH
NEEDS = (
    "onnxruntime", "tyro", "rich", "filelock", "psutil", "lazy_loader", "typing_extensions",
    "starlette", "uvicorn", "httptools", "python-multipart", "prometheus-client",
)  # fmt: skip
"""What prediction and the server import besides the preparation."""
NOT_COVERED = ()
CANNOT_RUN = ""
LARGEST = 1_800_000_000
"""Bytes of weights up to which they are within the file; protobuf ends at 2 GiB."""


def write(graph: Exportable, batches: Sequence[Mapping[str, Tensor]], folder: Path) -> dict[str, Any]:
    """Write a graph as ONNX and return what the certificate says of it.

    Args:
        graph: in evaluation mode.
        batches: of each preparation a batch of two or more, which the exporter traces; its sizes stay variables.
        folder: gets `model.onnx`.

    Raises:
        InputError: the extra is not installed, or an operator has no counterpart.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(f"--format onnx: needs onnx and onnxscript ({error}). pip install -e '.[deploy]'") from error
    size = sum(p.numel() * p.element_size() for p in graph.parameters())
    with torch.no_grad():
        outputs = list(graph.answers(batches))
    with quiet(), attention_written_out(graph), recurrence_left_open():
        try:
            torch.onnx.export(
                graph,
                arguments(graph, batches),
                str(folder / GRAPH),
                input_names=graph.input_names,
                output_names=outputs,
                opset_version=OPSET,
                dynamic_shapes=(shapes(graph),),
                external_data=size > LARGEST,
                dynamo=True,
                verbose=False,
            )
        except Exception as error:  # torch.export and onnxscript raise a dozen kinds
            raise InputError(f"--format onnx: {explain(error)}") from error
    proto = onnx.load(str(folder / GRAPH), load_external_data=False)
    return {
        "opset": max(one.version for one in proto.opset_import if one.domain in ("", "ai.onnx")),
        "takes": "any batch",
        "bytes": sum(path.stat().st_size for path in folder.glob(f"{GRAPH}*")),
        "inputs": {node.name: _described(node) for node in proto.graph.input},
        "outputs": {node.name: _described(node) for node in proto.graph.output},
    }


def answerer(folder: Path, threads: int) -> Answer:
    """Return what answers for a batch by the export in a folder, as `exported.load` runs it."""
    return exported.open_network(folder, exported.certificate_of(folder), threads)


def arguments(graph: Exportable, batches: Sequence[Mapping[str, Tensor]]) -> tuple[Tensor, ...]:
    """Return the graph's arguments for a batch, as each of the preparations has it."""
    return tuple(batch[name] for batch in batches for name in graph.names)


def shapes(graph: Exportable, most: Mapping[str, int] | None = None) -> tuple[dict[int, Any], ...]:
    """Return which axes of the arguments vary, as torch.export has it.

    Args:
        graph: that is exported.
        most: name of an axis -> its greatest size, for formats that need to know.
    """
    names = dict.fromkeys(name for axes in graph.axes for name in axes.values())
    sides = {name: torch.export.Dim(name, max=(most or {}).get(name)) for name in names}
    return tuple({axis: sides[name] for axis, name in axes.items()} for axes in graph.axes)


def explain(error: Exception) -> str:
    """Say which operator of whose line could not be exported, and what to do."""
    text = str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    place = _place(cause)
    first = next((line for line in lines if "Error" in line or "upport" in line), lines[0] if lines else repr(error))
    deepest = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
    return (
        f"the network cannot be exported{place}: {type(cause).__name__}: {deepest[:300]}"
        f"{'' if deepest in first else f' ({first[:200]})'}. Write the operation with others there, or keep what "
        "depends on values of tensors (.item(), if on a tensor) out of forward."
    )


def _place(error: BaseException) -> str:
    """Return ' at file:line' of the deepest frame in code that is not a library's; '' where there is none."""
    place, trace = "", error.__traceback__
    while trace:
        name = trace.tb_frame.f_code.co_filename
        if "site-packages" not in name and "/deploy/" not in name and Path(name).suffix == ".py":
            place = f" at {name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


@contextlib.contextmanager
def attention_written_out(graph: Exportable) -> Iterator[None]:
    """Export text encoders with eager attention: torch's own adds checks that cost a tenth of the time."""
    from transformers import PreTrainedModel

    encoders = [module for module in graph.modules() if isinstance(module, PreTrainedModel)]
    before = [encoder.config._attn_implementation for encoder in encoders]
    for encoder in encoders:
        encoder.set_attn_implementation("eager")
    try:
        yield
    finally:
        for encoder, implementation in zip(encoders, before, strict=True):
            encoder.set_attn_implementation(implementation or "eager")


@contextlib.contextmanager
def recurrence_left_open() -> Iterator[None]:
    """Have recurrent layers exported with any length, more than once a process.

    While it traces, torch's exporter registers loops in place of what unrolls them for one length. But torch 2.14 keeps
    which kernel an operator had when it was last traced, so only the first export of a process would find the loops.
    """
    operators = (torch.ops.aten.lstm.input, torch.ops.aten.gru.input)
    for operator in operators:
        operator._dispatch_cache.clear()
    try:
        yield
    finally:
        for operator in operators:
            operator._dispatch_cache.clear()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporter's progress and its notes on its own parts from the user."""
    names = ("torch.onnx", "torch.export", "torch.utils._pytree", "onnxscript", "onnx_ir", "coremltools")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _described(node: Any) -> dict[str, Any]:
    import onnx

    kind = node.type.tensor_type
    sides = [side.dim_param or side.dim_value for side in kind.shape.dim]
    return {"type": onnx.TensorProto.DataType.Name(kind.elem_type).lower(), "shape": sides}
