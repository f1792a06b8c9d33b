"""LSTMs of all layers and poolings are exported with their batch and length left open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from src.deploy import onnx_format
from src.deploy.graph import Graph
from src.experiment import DataSpec, Optim, Recurrent
from src.models import LSTM
from src.tasks import TextClassification

SPEC = DataSpec(classes=("no", "yes"), class_counts=(1, 1), input_shape=(64,), vocab_size=50)
SHAPES = [
    Recurrent(hidden=5, layers=2, pooling=("last", "mean", "max", "attention")),
    Recurrent(hidden=5, layers=1, bidirectional=False, pooling=("last",)),
]


def texts(batch: int, length: int) -> dict[str, np.ndarray]:
    """Return random texts, the first as long as all may be, the others of any length."""
    rng = np.random.default_rng(batch * length)
    lengths = np.array([length, *rng.integers(1, length + 1, batch - 1)])
    mask = np.arange(length) < lengths[:, None]
    return {"tokens": rng.integers(2, 50, (batch, length)) * mask, "mask": mask}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.layers} {'+'.join(shape.pooling)}")
def test_batches_and_lengths_that_the_exporter_did_not_see(shape: Recurrent, tmp_path: Path) -> None:
    import onnxruntime

    torch.manual_seed(0)
    task = TextClassification(LSTM(SPEC, 2, 8, shape), SPEC, Optim())
    graph = Graph([task], [0], ("tokens", "mask"), {"temperature": 1.3, "threshold": 0.4})
    traced = {name: torch.from_numpy(values) for name, values in texts(3, 7).items()}
    onnx_format.write(graph, [traced], tmp_path)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    for batch in (1, 4, 9):
        for length in (1, 5, 64):
            given = texts(batch, length)
            found: Any = session.run(None, given)
            with torch.no_grad():
                expected = graph.answers([{name: torch.from_numpy(values) for name, values in given.items()}])
            assert [node.name for node in session.get_outputs()] == list(expected)
            for own, wanted in zip(found, expected.values(), strict=True):
                np.testing.assert_allclose(own, wanted.numpy(), atol=1e-5)
