"""ExecuTorch: PyTorch's engine for phones and small machines, here with XNNPACK."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.configs.errors import InputError
from src.deploy.graph import Exportable
from src.deploy.onnx_format import explain, quiet
from src.deploy.parity import Answer
from src.deploy.traced import MAX_BATCH_SIZE, bounds, described, in_order, in_plain_order, names_in, size_of, trace

FILE = "model.pte"
NEEDS = ("executorch", "torch")
TRACED = 18
"""Examples of the batch that is traced; no size that is compared."""
NOT_COVERED = (
    f"batches above {MAX_BATCH_SIZE}, and texts longer than the preparation leaves: no memory is planned for them",
)
CANNOT_RUN = ""


def write(graph: Exportable, batches: Sequence[Mapping[str, Tensor]], folder: Path) -> dict[str, Any]:
    """Write a graph as `model.pte`; see `formats.Format.write`."""
    try:
        with quiet():
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner  # pyright: ignore[reportMissingImports]
            from executorch.exir import to_edge_transform_and_lower  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(f"--format executorch: needs executorch ({error}). pip install -e '.[formats]'") from error
    enough = [{name: repeated(values) for name, values in batch.items()} for batch in batches]
    program = trace(in_plain_order(graph), enough, name="executorch", most=bounds(graph))
    with quiet():
        try:
            lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
        except Exception as error:  # of a dozen kinds
            raise InputError(f"--format executorch: {explain(error)}") from error
    (folder / FILE).write_bytes(lowered.buffer)
    return {"takes": f"batches of 1 to {MAX_BATCH_SIZE}", "bytes": size_of(folder / FILE), **described(graph, batches)}


def repeated(values: Tensor) -> Tensor:
    """Return a batch of `TRACED` examples or a few more.

    PyTorch chooses how to convolve by whether a batch has 16. Of a smaller one, the lowering would take 15 for the
    greatest there is.
    """
    return values.repeat(-(-TRACED // len(values)), *([1] * (values.ndim - 1)))


def answerer(folder: Path, threads: int) -> Answer:
    """Return what answers for a batch by the export in a folder.

    Args:
        folder: with the certificate.
        threads: of the process's one pool, from now on; 0 leaves it as it is.
    """
    with quiet(), unheard():  # it warns that its API is experimental
        from executorch.extension.pybindings import portable_lib  # pyright: ignore[reportMissingImports]
        from executorch.runtime import Runtime  # pyright: ignore[reportMissingImports]

        if threads:
            portable_lib._unsafe_reset_threadpool(threads)
        method = Runtime.get().load_program(folder / FILE).load_method("forward")
    assert method is not None
    inputs, outputs = names_in(folder)

    def answer(arrays: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        values = [torch.from_numpy(one) for one in in_order(arrays, inputs)]
        answers = method.execute(values)
        return {name: tensor.numpy().copy() for name, tensor in zip(outputs, answers, strict=True)}

    return answer


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """Keep from the user what the engine, which is no Python, writes to standard error; errors are raised besides."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
