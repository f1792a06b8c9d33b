"""Which arithmetic is faster for a task, where no flag of the processor tells: timed once, then kept in the cache."""

from __future__ import annotations

import copy
import hashlib
import json
import time

import torch
from filelock import FileLock
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.seed import isolate_rng

from src import records
from src.datamodules import DataModule
from src.tasks import Task

CLEARLY = 1.1
"""Times as fast as 32-true that bf16-mixed has to be; it is less exact."""
EXAMPLES, STEP = 2, 0.25
"""Steps of so many examples are tried first, then of twice as many, until one takes so many seconds or has a batch."""
WORTH = 60.0
"""Seconds that the training has to take, by its first examples, for a measurement; else the flags decide."""
ROUNDS, SECONDS = 5, 1.0
"""At most so many timed steps of each arithmetic, and none after so many seconds."""
PRECISIONS = ("32-true", "bf16-mixed")
Speeds = dict[str, float]
"""Precision -> training examples a second, without data and optimiser."""


def measured_speeds(task: Task, datamodule: DataModule, trainer: Trainer) -> Speeds:
    """Return the speeds of 32-true and bf16-mixed on this CPU: kept from an earlier run, else measured.

    The result is kept for a network's shapes, its inputs', the batch size and the machine. So a second run decides as
    the first, and so do all processes of a distributed one: who asks while another measures waits. The task, the data's
    position and the random state stay as they were.

    Returns:
        Nothing where the training is short, or the cache cannot be written: two processes could disagree.
    """
    path = records.cache_dir() / "precision" / f"{_key(task, datamodule)}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if path.is_file():
                return json.loads(path.read_text())
            speeds = measure(task, datamodule, trainer)
            records.write_json(path, speeds)
    except (OSError, ValueError):
        return {}
    return speeds


def faster(speeds: Speeds) -> str:
    """Return bf16-mixed where it is clearly the faster, else 32-true."""
    return "bf16-mixed" if speeds["bf16-mixed"] >= CLEARLY * speeds["32-true"] else "32-true"


def _key(task: Task, datamodule: DataModule) -> str:
    shapes = [(name, tuple(p.shape), p.requires_grad) for name, p in task.model.named_parameters()]
    machine = torch.cpu.get_capabilities(), torch.__version__  # not its threads: each of several processes has fewer
    found = type(task.model).__name__, shapes, datamodule.spec.input_shape, datamodule.batch_size, machine
    return hashlib.sha256(repr(found).encode()).hexdigest()[:24]


def measure(task: Task, datamodule: DataModule, trainer: Trainer) -> Speeds:
    """Time forward and backward of a copy of the task on the training's first examples, in turns, and take the best."""
    with isolate_rng():
        trial = copy.deepcopy(task)
        trial.trainer = trainer  # which knows how many epochs there will be
        data, batches = datamodule.dataset("train", train=True), datamodule.batches("train", train=True)
        first = next(iter(batches))

        def seconds(precision: str, keys: list[int]) -> float:
            batch = datamodule.on_after_batch_transfer(data[keys], 0)
            started = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
                loss = trial._step(batch, "train")["loss"]
            loss.backward()
            return time.perf_counter() - started

        count, spent = EXAMPLES, 0.0
        seconds("32-true", first[:count])  # what is done once only
        limit = trainer.limit_train_batches
        steps = min(len(batches), limit) if isinstance(limit, int) else limit * len(batches)
        once = seconds("32-true", first[:count]) / count * len(first)
        if once * steps * (trainer.max_epochs or 1) < WORTH:
            return {}
        while spent < STEP and count < len(first):
            spent = max(seconds(precision, first[:count]) for precision in PRECISIONS)
            count *= 2
        keys = first[: max(EXAMPLES, count // 2)]
        best = dict.fromkeys(PRECISIONS, float("inf"))
        started = time.perf_counter()
        for number in range(1 + ROUNDS):
            for precision, before in best.items():
                spent = seconds(precision, keys)
                best[precision] = min(before, spent) if number else before  # the first of a new size allocates too
            if number and time.perf_counter() - started > SECONDS:
                break
    return {precision: round(len(keys) / spent, 3) for precision, spent in best.items()}
