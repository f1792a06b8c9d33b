"""PT2: torch.export's own archive, which runs wherever torch does, without this checkout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.deploy.graph import Exportable
from src.deploy.parity import Answer
from src.deploy.traced import described, in_order, names_in, size_of, trace

FILE = "model.pt2"
NEEDS = ("torch",)
NOT_COVERED = ()
CANNOT_RUN = ""


def write(graph: Exportable, batches: Sequence[Mapping[str, Tensor]], folder: Path) -> dict[str, Any]:
    """Write a graph as `model.pt2`; see `formats.Format.write`."""
    torch.export.save(trace(graph, batches, name="pt2"), folder / FILE)
    return {"takes": "any batch", "bytes": size_of(folder / FILE), **described(graph, batches)}


def answerer(folder: Path, threads: int) -> Answer:
    """Return what answers for a batch by the export in a folder. Its threads are torch's own: `threads` sets none."""
    module = torch.export.load(folder / FILE).module()
    inputs, outputs = names_in(folder)

    def answer(arrays: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            answers = module(*(torch.from_numpy(values) for values in in_order(arrays, inputs)))
        return {name: tensor.numpy() for name, tensor in zip(outputs, answers, strict=True)}

    return answer
