"""Saving a checkpoint of a ResNet-50 with AdamW's state, side by side.

    python benchmarks/checkpoints.py save --rounds 5

Ours is synced to the disk, read back and renamed; `torch.save` and Lightning's own leave the bytes to the system's
cache, so a crash may take them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from benchmarks import report
from benchmarks.loops import Train
from benchmarks.turns import Contender, Turns
from src import models
from src.callbacks import WholeCheckpointIO


def state() -> dict[str, Any]:
    """Return what a checkpoint holds: weights, and AdamW's two numbers for each."""
    model = models.ResNet("resnet50", 2)
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return {"state_dict": model.state_dict(), "optimizer_states": [optimizer.state_dict()]}


def saving(folder: Path, saver: TorchCheckpointIO | None) -> Train:
    def train(turns: Turns) -> None:
        checkpoint, path = state(), folder / f"{type(saver).__name__}.ckpt"
        while True:
            if saver is None:
                torch.save(checkpoint, path)
            else:
                saver.save_checkpoint(checkpoint, path)
            turns.step(1)

    return train


def main() -> None:
    flags = report.options(__doc__ or "", ["save"])
    with tempfile.TemporaryDirectory() as name:
        contenders = [
            Contender("Leyden", saving(Path(name), WholeCheckpointIO()), 3),
            Contender("Lightning's own", saving(Path(name), TorchCheckpointIO()), 3, "Leyden"),
            Contender("torch.save", saving(Path(name), None), 3, "Leyden"),
        ]
        report.show(report.measure("checkpoint, ResNet-50 with AdamW", contenders, flags.rounds, "saves/s"), flags.json)


if __name__ == "__main__":
    main()
