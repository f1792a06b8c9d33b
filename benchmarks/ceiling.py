"""What share of the machine's matrix multiplications a training reaches: both are measured in turns.

    python benchmarks/ceiling.py resnet18 --rounds 5
    python benchmarks/ceiling.py minilm --rounds 5

The ceiling is the best of three sizes of square matrices, in bf16 and in float32. A training's operations are those of
`torch.utils.flop_counter` for the same network, forwards and backwards.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import report
from benchmarks.images import Whole
from benchmarks.loops import Train, ours
from benchmarks.pictures import photographs
from benchmarks.turns import Contender, Turns
from experiments.imdb_bert import ImdbBert
from src import models
from src.experiment import DataSpec, TextPrep

SIZES = (1024, 2048, 4096)
TOKENS = 256


def operations(model: nn.Module, *inputs: Tensor) -> float:
    """Return the billions of operations of a training step with these inputs, for one of its examples."""
    counter = FlopCounterMode(display=False)
    with counter:
        model(*inputs).sum().backward()
    return counter.get_total_flops() / 1e9 / len(inputs[0])


def resnet_operations() -> float:
    return operations(models.ResNet("resnet18", 2), torch.zeros(2, 3, 224, 224))


def minilm_operations(encoder: str) -> float:
    spec = DataSpec(input_shape=(TOKENS,))
    model = models.Bert(encoder, spec, 2)
    model.encoder.set_attn_implementation("eager")  # whose multiplications the counter knows
    tokens = torch.zeros(2, TOKENS, dtype=torch.long)
    return operations(model, tokens, torch.ones_like(tokens, dtype=torch.bool))


def multiply(dtype: torch.dtype) -> Train:
    """Return a contender: square matrices of the size that is fastest here; a step is a tenth of a second or so."""

    def train(turns: Turns) -> None:
        pairs = {size: torch.randn(2, size, size, dtype=dtype).unbind() for size in SIZES}

        def speed(size: int) -> float:
            a, b = pairs[size]
            torch.mm(a, b)
            started = time.perf_counter()
            count = max(1, 4 * 1024**3 * 16 // size**3)
            for _ in range(count):
                torch.mm(a, b)
            return count * 2 * size**3 / (time.perf_counter() - started)

        best = max(SIZES, key=speed)
        a, b = pairs[best]
        while True:
            for _ in range(SIZES[-1] ** 3 // best**3):
                torch.mm(a, b)
            turns.step(round(2 * SIZES[-1] ** 3 / 1e9))

    return train


class Counted(Turns):
    """Turns whose examples are counted as operations."""

    def __init__(self, turns: Turns, each: float) -> None:
        self.turns, self.each = turns, each

    def step(self, amount: int) -> None:
        self.turns.step(round(amount * self.each))


def counting(train: Train, each: Callable[[], float]) -> Train:
    """Return a contender that counts what an example costs in its own process: before it nothing may be computed."""
    return lambda turns: train(Counted(turns, each()))


class Padded(ImdbBert):
    """Every text padded to the same length, so that every example costs the same."""

    prep = TextPrep(strip_html=True, max_length=TOKENS, padding="max_length")
    validations = 1


def main() -> None:
    flags = report.options(__doc__ or "", ["resnet18", "minilm"])
    with tempfile.TemporaryDirectory() as name:
        if flags.job == "resnet18":
            os.environ["LEYDEN_CACHE"] = str(Path(name) / "cache")
            folder = flags.data_dir or photographs(Path(name) / "pictures", train=800, val=64)
            title, each, experiment = "ResNet-18, 224 px", resnet_operations, Whole(data_dir=folder)
        else:
            experiment: Any = Padded(data_dir=flags.data_dir).resolve()
            title, each = f"MiniLM, {TOKENS} tokens", partial(minilm_operations, experiment.encoder)
        contenders = [
            Contender("Leyden, training", counting(ours(experiment), each), 4),
            Contender("matrices, bf16", multiply(torch.bfloat16), 12, "Leyden, training", 0.45),
            Contender("matrices, float32", multiply(torch.float32), 4, "Leyden, training"),
        ]
        report.show(report.measure(f"share of the ceiling, {title}", contenders, flags.rounds, "GFLOP/s"), flags.json)


if __name__ == "__main__":
    main()
