"""Trainings to race: ours as `run.py` trains, and loops by hand."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.nn import functional as F

from benchmarks.turns import Steps, Turns
from src.experiment import Experiment, replace
from src.runs import records
from src.runs.metrics_csv import MetricsCsv
from src.runs.records import Record
from src.runs.tensorboard import TensorBoard
from src.training import build, runner
from src.training.trainer import build_callbacks, build_trainer, quieten

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
"""Of the loops by hand, as Leyden chooses."""
LONG = 10_000
"""Epochs of a training that lasts as long as the race."""
Train = Callable[[Turns], object]


def ours(experiment: Experiment, *, epochs: int = LONG, without: tuple[type[Callback], ...] = ()) -> Train:
    """Return a contender: an experiment as `run.py` trains it, with its callbacks but some, loggers and checkpoints."""

    def train(turns: Turns) -> None:
        quieten()
        resolved = replace(experiment, max_epochs=epochs, patience=None).resolve()
        datamodule, task = build.build_parts(resolved)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            callbacks = [one for one in build_callbacks(resolved, Record(folder)) if not isinstance(one, without)]
            loggers = [MetricsCsv(folder), TensorBoard(folder)]
            trainer = build_trainer(resolved, [*callbacks, Steps(turns)], logger=loggers)
            runner.fit(resolved, trainer, task, datamodule, folder / "checkpoints" / "last.ckpt")

    return train


def our_score(experiment: Experiment) -> float:
    """Train an experiment as `run.py` does; return the validation accuracy of its best checkpoint."""
    quieten()
    return records.load(runner.run(experiment))["metrics"]["val/acc"]


def last_score(experiment: Experiment) -> float:
    """Train an experiment to its end; return its last validation accuracy, as other trainers report it."""
    quieten()
    run = runner.run(replace(experiment, patience=None))
    with open(run / "metrics.csv", encoding="utf-8", newline="") as file:
        return [float(row["value"]) for row in csv.DictReader(file) if row["name"] == "val/acc"][-1]


def by_hand(
    model: nn.Module,
    batches: Callable[[], Iterable[tuple[Any, ...]]],
    optimizer: torch.optim.Optimizer,
    turns: Turns,
    *,
    bf16: bool = False,
    clip: float | None = None,
    schedule: Any = None,
    label_smoothing: float = 0.0,
) -> None:
    """Train without end, as an expert's loop does: nothing is logged, nothing waits; batches are (*inputs, target)."""
    model.to(DEVICE).train()
    while True:
        for batch in batches():
            *inputs, target = (tensor.to(DEVICE, non_blocking=True) for tensor in batch)
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=bf16):
                logits = model(*inputs)
            loss = F.cross_entropy(logits.float(), target, label_smoothing=label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            if schedule:
                schedule.step()
            turns.step(len(target))


def tutorial(
    model: nn.Module,
    batches: Iterable[tuple[Any, ...]],
    optimizer: torch.optim.Optimizer,
    turns: Turns,
    *,
    epochs: int = LONG,
) -> None:
    """Train as the common tutorials do: float32, the loss and the right answers read in each step."""
    criterion = nn.CrossEntropyLoss()
    model.to(DEVICE)
    for _ in range(epochs):
        model.train()
        running_loss, running_corrects = 0.0, 0
        for batch in batches:
            *inputs, target = (tensor.to(DEVICE) for tensor in batch)
            optimizer.zero_grad()
            outputs = model(*inputs)
            _, preds = torch.max(outputs, 1)
            loss = criterion(outputs, target)
            loss.backward()
            optimizer.step()
            running_loss += loss.item() * len(target)
            running_corrects += int(torch.sum(preds == target.data))
            turns.step(len(target))
