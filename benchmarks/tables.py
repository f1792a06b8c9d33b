"""A tiny MLP on 10 000 rows in batches of 32, side by side: ours, Lightning's default path, and loops by hand.

    python benchmarks/tables.py --rounds 7

All train the same network with the same optimiser, validate and save a checkpoint after each epoch of 312 steps; ours
and Lightning's log as they do by default, the loops by hand log nothing. Each trains in a process of its own, and only
one of them goes on at a time: A B C A B C, `--steps` optimiser steps a turn, the first turn for warm-up.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
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

from benchmarks.turns import Steps, Turns, race
from experiments.tables import TableRegression
from src import runner
from src.experiment import Experiment, Optim, Perceptron, TablePrep
from src.loggers import MetricsCsv, TensorBoard
from src.trainer import build_callbacks, build_trainer, quieten

ROWS, NUMBERS, WIDTH, BATCH, EPOCHS = 10_000, 20, 32, 32, 10_000
Data = dict[str, tuple[Tensor, Tensor]]


class Tiny(TableRegression):
    """The network of this benchmark, as an experiment."""

    target = "y"
    max_epochs = EPOCHS
    batch_size = BATCH
    grad_clip = None
    prep = TablePrep(numbers="none", target="none")
    optim = Optim(lr=1e-3, schedule="constant")
    mlp = Perceptron(width=WIDTH, depth=1, dropout=0.0)


def ours(experiment: Experiment, folder: Path) -> Callable[[Turns], None]:
    """Return a contender: an experiment as `run.py` trains it."""

    def train(turns: Turns) -> None:
        quieten()
        datamodule, task = runner.build_parts(experiment)
        callbacks = [*build_callbacks(experiment, folder), Steps(turns)]
        folder.mkdir()
        trainer = build_trainer(experiment, callbacks, logger=[MetricsCsv(folder), TensorBoard(folder)])
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            trainer.fit(task, datamodule=datamodule)

    return train


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


class PlainSteps(Steps):
    """As `Steps`, for batches that are tuples."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.turns.step(len(batch[0]))


def lightning_default(data: Data, folder: Path) -> Callable[[Turns], None]:
    """Return a contender: DataLoader, Trainer with its bar, TensorBoard and checkpoints."""

    def train(turns: Turns) -> None:
        train_loader, val_loader = (
            DataLoader(TensorDataset(*data[s]), BATCH, shuffle=s == "train") for s in ("train", "val")
        )
        trainer = lightning.Trainer(
            accelerator="cpu", max_epochs=EPOCHS, default_root_dir=folder, callbacks=[PlainSteps(turns)]
        )
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            trainer.fit(Plain(), train_loader, val_loader)

    return train


def by_hand(data: Data, folder: Path, *, sliced: bool) -> Callable[[Turns], None]:
    """Return a contender: the loop that an expert writes, over a DataLoader or slices of the tensors."""

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        if not sliced:
            yield from DataLoader(TensorDataset(*data["train"]), BATCH, shuffle=True, drop_last=True)
            return
        order = torch.randperm(len(data["train"][1]))
        for rows in order[: len(order) // BATCH * BATCH].view(-1, BATCH):
            yield data["train"][0][rows], data["train"][1][rows]

    def train(turns: Turns) -> None:
        model = network()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
        while True:
            for x, y in batches():
                loss = F.mse_loss(model(x)[:, 0], y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                turns.step(len(y))
            with torch.no_grad():
                F.mse_loss(model(data["val"][0])[:, 0], data["val"][1])
            torch.save(model.state_dict(), folder / f"hand-{sliced}.pt")

    return train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="timed turns of each, after one for warm-up")
    parser.add_argument("--steps", type=int, default=624, help="optimiser steps a turn; 312 are an epoch")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS + 1000, NUMBERS)).astype(np.float32)
    y = (x @ rng.normal(size=NUMBERS) + np.sin(3 * x[:, 0])).astype(np.float32)
    data = {
        split: (torch.from_numpy(x[rows]), torch.from_numpy(y[rows]))
        for split, rows in (("train", slice(0, ROWS)), ("val", slice(ROWS, None)))
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "table").mkdir()
        for split, (inputs, targets) in data.items():
            frame = pd.DataFrame(inputs.numpy(), columns=[f"x{i}" for i in range(NUMBERS)])
            frame.assign(y=targets.numpy()).to_parquet(folder / "table" / f"{split}.parquet")
        contenders = {
            "Leyden": ours(Tiny(data_dir=folder / "table"), folder / "run"),
            "Lightning, defaults": lightning_default(data, folder),
            "loop, DataLoader": by_hand(data, folder, sliced=False),
            "loop, slices": by_hand(data, folder, sliced=True),
        }
        race(contenders, options.rounds, options.steps)


if __name__ == "__main__":
    main()
