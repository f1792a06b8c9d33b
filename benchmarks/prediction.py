"""Predicting picture files with a ResNet-18 of 224 pixels, decoding included, side by side.

python benchmarks/prediction.py pictures --rounds 5
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from PIL import Image

from benchmarks import report
from benchmarks.images import Whole
from benchmarks.loops import Train
from benchmarks.pictures import photographs, tutorial_transform
from benchmarks.turns import Contender, Turns
from src import models
from src.datamodules.images.decoding import decode
from src.inference import predictor
from src.training import runner
from src.training.trainer import quieten

BATCH = 32


def ours(folder: Path) -> Train:
    """Return a contender: `predict.py` without the start of Python, on a run that has had one step."""

    def train(turns: Turns) -> None:
        quieten()
        os.environ["LEYDEN_RUNS"] = str(folder / "runs")
        run = runner.run(Whole(data_dir=folder, max_epochs=1, limit_train_batches=1, limit_val_batches=2))
        files = sorted((folder / "train").rglob("*.jpg"))
        while True:
            predictor.predict(run, files)
            turns.step(len(files))

    return train


def by_hand(folder: Path, *, textbook: bool) -> Train:
    """Return a contender: batches of pictures, in float32 as the tutorials have it, or in bf16, channels last and
    decoded at the size that is needed.
    """

    @torch.no_grad()
    def train(turns: Turns) -> None:
        model = models.ResNet("resnet18", 2).eval()
        files = sorted((folder / "train").rglob("*.jpg"))
        tutorial: Any = tutorial_transform(train=False)
        if not textbook:
            model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        for start in range(0, 10**9, BATCH):
            some = [files[i % len(files)] for i in range(start, start + BATCH)]
            if textbook:
                images = torch.stack([tutorial(Image.open(file).convert("RGB")) for file in some])
            else:
                pixels = torch.from_numpy(np.stack([decode(file, 256) for file in some])).permute(0, 3, 1, 2)
                images = pixels[:, :, 16:240, 16:240].float().div_(255)
            with torch.autocast("cpu", torch.bfloat16, enabled=not textbook):
                model(images).float().softmax(-1)
            turns.step(len(some))

    return train


def main() -> None:
    flags = report.options(__doc__ or "", ["pictures"])
    with tempfile.TemporaryDirectory() as name:
        os.environ["LEYDEN_CACHE"] = str(Path(name) / "cache")
        folder = flags.data_dir or photographs(Path(name) / "pictures", train=160, val=64)
        contenders = [
            Contender("Leyden", ours(folder)),
            Contender("plain loop, bf16", by_hand(folder, textbook=False), 5, "Leyden"),
            Contender("textbook loop", by_hand(folder, textbook=True), 3, "Leyden"),
        ]
        report.show(report.measure("prediction, ResNet-18", contenders, flags.rounds, "pictures/s"), flags.json)


if __name__ == "__main__":
    main()
