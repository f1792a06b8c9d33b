"""A tiny MLP on 10 000 rows in batches of 32, side by side: ours, Lightning's default path, and loops by hand.

    python benchmarks/tables.py mlp --rounds 5

All train the same network with the same optimiser, validate and save a checkpoint after each epoch of 312 steps; ours
and Lightning's log as they do by default, the loops by hand log nothing.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import lightning
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from benchmarks import report
from benchmarks.loops import DEVICE, LONG, Train, ours
from benchmarks.turns import Contender, Steps, Turns
from experiments.tables import TableRegression
from src.experiment import Optim, Perceptron, TablePrep

ROWS, NUMBERS, WIDTH, BATCH = 10_000, 20, 32, 32
EPOCH = ROWS // BATCH
Data = dict[str, tuple[Tensor, Tensor]]


class Tiny(TableRegression):
    """The network of this benchmark, as an experiment."""

    target = "y"
    batch_size = BATCH
    grad_clip = None
    prep = TablePrep(numbers="none", target="none")
    optim = Optim(lr=1e-3, schedule="constant")
    mlp = Perceptron(width=WIDTH, depth=1, dropout=0.0)


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(NUMBERS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))


class Plain(lightning.LightningModule):
    """The module of Lightning's own introduction: it logs the loss of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = F.mse_loss(self.net(batch[0])[:, 0], batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", F.mse_loss(self.net(batch[0])[:, 0], batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def lightning_default(data: Data, folder: Path) -> Train:
    """Return a contender: DataLoader, Trainer with its bar, TensorBoard and checkpoints."""

    def train(turns: Turns) -> None:
        train_loader, val_loader = (
            DataLoader(TensorDataset(*data[s]), BATCH, shuffle=s == "train") for s in ("train", "val")
        )
        trainer = lightning.Trainer(max_epochs=LONG, default_root_dir=folder, callbacks=[Steps(turns)])
        trainer.fit(Plain(), train_loader, val_loader)

    return train


def by_hand(data: Data, folder: Path, *, sliced: bool) -> Train:
    """Return a contender: the loop that an expert writes, over a DataLoader or slices of the tensors."""

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        if not sliced:
            yield from DataLoader(TensorDataset(*data["train"]), BATCH, shuffle=True, drop_last=True)
            return
        order = torch.randperm(len(data["train"][1]))
        for rows in order[: len(order) // BATCH * BATCH].view(-1, BATCH):
            yield data["train"][0][rows], data["train"][1][rows]

    def train(turns: Turns) -> None:
        model = network().to(DEVICE)
        val_x, val_y = (tensor.to(DEVICE) for tensor in data["val"])
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
        while True:
            for batch in batches():
                x, y = (tensor.to(DEVICE, non_blocking=True) for tensor in batch)
                loss = F.mse_loss(model(x)[:, 0], y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                turns.step(len(y))
            with torch.no_grad():
                F.mse_loss(model(val_x)[:, 0], val_y)
            torch.save(model.state_dict(), folder / f"hand-{sliced}.pt")

    return train


def write(folder: Path) -> Data:
    """Draw the rows, write them as a table with splits, and return them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS + 1000, NUMBERS)).astype(np.float32)
    y = (x @ rng.normal(size=NUMBERS) + np.sin(3 * x[:, 0])).astype(np.float32)
    data: Data = {}
    for split, rows in (("train", slice(0, ROWS)), ("val", slice(ROWS, None))):
        frame = pd.DataFrame(x[rows], columns=[f"x{i}" for i in range(NUMBERS)])
        frame.assign(y=y[rows]).to_parquet(folder / f"{split}.parquet")
        data[split] = torch.from_numpy(x[rows]), torch.from_numpy(y[rows])
    return data


def main() -> None:
    flags = report.options(__doc__ or "", ["mlp"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = write(folder)
        contenders = [
            Contender("Leyden", ours(Tiny(data_dir=folder)), 4 * EPOCH),
            Contender("loop, DataLoader", by_hand(data, folder, sliced=False), 4 * EPOCH, "Leyden", 0.75),
            Contender("loop, slices", by_hand(data, folder, sliced=True), 8 * EPOCH, "Leyden"),
            Contender("Lightning, defaults", lightning_default(data, folder), 2 * EPOCH, "Leyden", 2.0),
        ]
        report.show(report.measure("tiny MLP, batches of 32", contenders, flags.rounds), flags.json)


if __name__ == "__main__":
    main()
