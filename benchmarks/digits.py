"""Small networks on pictures of 28 pixels, side by side: ours, the same by hand, and the tutorial's loop.

    python benchmarks/digits.py cnn --rounds 5

The pictures are noise in MNIST's files, 50 000 of them for training, or those of `--data-dir`.
"""

from __future__ import annotations

import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import VisionDataset
from torchvision.transforms import functional

from benchmarks import report
from benchmarks.loops import Train, by_hand, ours, tutorial
from benchmarks.turns import Contender, Turns
from experiments.fashion import FashionCNN
from src.tasks.optim import build_optimizer
from src.training import build
from src.training.devices import choose_precision

TRAIN, TEST = 60_000, 10_000


def noise(folder: Path) -> Path:
    """Write the four files of MNIST's format, with noise for pictures."""
    rng = np.random.default_rng(0)
    for prefix, count in (("train", TRAIN), ("t10k", TEST)):
        images = rng.integers(0, 256, (count, 28, 28), np.uint8)
        labels = rng.permutation(np.arange(count) % 10).astype(np.uint8)
        header = struct.pack(">4i", 2051, count, 28, 28)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, count) + labels.tobytes())
    return folder


def expert(experiment: FashionCNN) -> Train:
    """Return a contender: the experiment's recipe by hand, batches sliced from memory, each moved as a whole."""

    def train(turns: Turns) -> None:
        datamodule, task = build.build_parts(experiment)
        columns: Any = datamodule.dataset("train", train=False)
        images, targets = columns.columns["image"], columns.columns["target"]
        shift, size = experiment.shift, images.shape[-1]

        def batches() -> Iterator[tuple[Tensor, Tensor]]:
            for rows in torch.randperm(len(images)).split(experiment.batch_size):
                windows = F.pad(images[rows], [shift] * 4).unfold(2, size, 1).unfold(3, size, 1)
                down, right = torch.randint(2 * shift + 1, (2, len(rows)))
                moved = windows[torch.arange(len(rows)), :, down, right]
                yield moved.float().div_(255).contiguous(memory_format=torch.channels_last), targets[rows]

        model: Any = task.model
        by_hand(
            model,
            batches,
            build_optimizer(model.layer_groups(), experiment.optim, model),
            turns,
            bf16=choose_precision(experiment) == "bf16-mixed",
        )

    return train


class Pillow(VisionDataset):
    """As torchvision's MNIST hands out its pictures: each through Pillow and `ToTensor`."""

    def __init__(self, images: Tensor, targets: Tensor) -> None:
        super().__init__("", transform=transforms.ToTensor())
        self.images, self.targets = images, targets

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = functional.to_pil_image(self.images[index])
        assert self.transform
        return self.transform(picture), int(self.targets[index])


def textbook(experiment: FashionCNN) -> Train:
    """Return a contender: the same network in https://github.com/yunjey/pytorch-tutorial's loop, batches of 100."""

    def train(turns: Turns) -> None:
        datamodule, task = build.build_parts(experiment)
        columns: Any = datamodule.dataset("train", train=False)
        loader = DataLoader(Pillow(columns.columns["image"], columns.columns["target"]), 100, shuffle=True)
        tutorial(task.model, loader, torch.optim.Adam(task.model.parameters(), lr=1e-3), turns)

    return train


def main() -> None:
    flags = report.options(__doc__ or "", ["cnn"])
    with tempfile.TemporaryDirectory() as name:
        experiment = FashionCNN(data_dir=flags.data_dir or noise(Path(name)))
        contenders = [
            Contender("Leyden", ours(experiment), 64),
            Contender("plain loop, same recipe", expert(experiment), 64, "Leyden"),
            Contender("textbook loop", textbook(experiment), 48, "Leyden"),
        ]
        report.show(report.measure("CNN, 28 px", contenders, flags.rounds), flags.json)


if __name__ == "__main__":
    main()
