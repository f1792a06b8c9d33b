"""Which arithmetic is faster for a task, where no flag of the processor tells: timed once, then kept in the cache."""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.seed import isolate_rng

from src.datamodules import DataModule
from src.experiment import Experiment
from src.resources.cache import cache_dir, once
from src.tasks import Task
from src.training.devices import choose_precision
from src.training.ranks import everyones, meeting

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


def agreed_precision(experiment: Experiment) -> str | None:
    """Return what the hardware of all machines says of 'auto': 32-true where one does not multiply bfloat16; None for a
    process that is alone."""
    if meeting() is None:
        return None
    found = {*everyones(choose_precision(experiment))}
    return found.pop() if len(found) == 1 else "32-true"


def undecided(experiment: Experiment, trainer: Trainer) -> bool:
    """Return whether only a measurement can tell 'auto' the faster precision: on a CPU with instructions for bfloat16
    but no tiles, the network decides.
    """
    cpu = torch.cpu.get_capabilities()
    return (
        experiment.precision == "auto"
        and "precision" not in experiment.trainer_kwargs()
        and trainer.strategy.root_device.type == "cpu"
        and bool(cpu.get("avx512_bf16") and not cpu.get("amx_bf16"))
    )


def measured_speeds(experiment: Experiment, task: Task, datamodule: DataModule, trainer: Trainer) -> Speeds:
    """Return the speeds of 32-true and bf16-mixed on this CPU: kept from an earlier run, else measured.

    The result is kept for a network's shapes, its inputs', the batch size and the machine, so that a second run decides
    as the first. The task, the data's position and the random state stay as they were.

    Returns:
        Nothing where the flags decide: they tell, or the training is short, or the cache cannot be written.
    """
    if not undecided(experiment, trainer):
        return {}
    key = _key(task, datamodule)
    trial = functools.cache(lambda: Trial(task, datamodule, trainer))  # a copy and some steps: if asked for
    with isolate_rng():
        taken = _measured(f"{key}-example", ("seconds",), lambda: {"seconds": trial().seconds_an_example})
        if not taken or taken["seconds"] * examples(task, datamodule, trainer) < WORTH:
            return {}
        return _measured(f"{key}-speeds", PRECISIONS, lambda: trial().speeds())


def _measured(name: str, keys: tuple[str, ...], measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Return a measurement from the cache, else a new one; {} where the cache cannot be written."""

    def read(path: Path) -> dict[str, float] | None:
        try:
            found: Any = json.loads(path.read_text(encoding="utf-8"))
            return {key: float(found[key]) for key in keys}
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def fill(part: Path) -> dict[str, float]:
        found = measure()
        part.write_text(json.dumps(found), encoding="utf-8")
        return found

    path = cache_dir() / "precision" / f"{name}.json"
    return once(path, read, fill, fallback=dict, so="the processor's flags choose the precision")


def examples(task: Task, datamodule: DataModule, trainer: Trainer) -> float:
    """Return how many examples a training takes through the network in all its epochs, or for the features it keeps."""
    batches = datamodule.batches("train", train=True)
    limit = trainer.limit_train_batches
    share = min(1.0, limit / len(batches)) if isinstance(limit, int) else limit
    epochs = 1 if task.cached_features == "probe" else trainer.max_epochs or 1
    return share * len(datamodule.ids("train")) * epochs


def faster(speeds: Speeds) -> str:
    """Return bf16-mixed where it is clearly the faster, else 32-true."""
    return "bf16-mixed" if speeds["bf16-mixed"] >= CLEARLY * speeds["32-true"] else "32-true"


def _key(task: Task, datamodule: DataModule) -> str:
    shapes = [(name, tuple(p.shape), p.requires_grad) for name, p in task.model.named_parameters()]
    machine = torch.cpu.get_capabilities(), torch.__version__  # not its threads: each of several processes has fewer
    found = type(task.model).__name__, shapes, datamodule.spec.input_shape, datamodule.batch_size, machine
    return hashlib.sha256(repr(found).encode()).hexdigest()[:24]


class Trial:
    """A copy of a task that takes steps on the training's first examples, of which a timed step has `count`.

    The task and the data stay as they are; `seconds_an_example` is of 32-true.
    """

    def __init__(self, task: Task, datamodule: DataModule, trainer: Trainer) -> None:
        self.task, self.datamodule = copy.deepcopy(task), datamodule
        self.task.trainer = trainer  # which knows how many epochs there will be
        self.task.log = self.task.log_dict = lambda *_, **__: None  # there is no loop to log in
        self.data = datamodule.dataset("train", train=True)
        self.keys = next(iter(datamodule.batches("train", train=True)))
        self.count = min(EXAMPLES, len(self.keys))
        self.seconds("32-true")  # what is done once only
        while (spent := self.seconds("32-true")) < STEP and self.count < len(self.keys):
            self.count = min(2 * self.count, len(self.keys))
        self.seconds_an_example = spent / self.count

    def seconds(self, precision: str) -> float:
        """Return what forward and backward of the first `count` examples take."""
        batch = self.datamodule.on_after_batch_transfer(self.data[self.keys[: self.count]], 0)
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            loss = self.task._step(batch, "train")["loss"]
        loss.backward()
        return time.perf_counter() - started

    def speeds(self) -> Speeds:
        """Time both arithmetics in turns, and take the best time of each."""
        best = dict.fromkeys(PRECISIONS, float("inf"))
        started = time.perf_counter()
        for number in range(1 + ROUNDS):
            for precision, before in best.items():
                spent = self.seconds(precision)
                best[precision] = min(before, spent) if number else before  # the first of a new size allocates too
            if number and time.perf_counter() - started > SECONDS:
                break
        return {precision: round(self.count / spent, 3) for precision, spent in best.items()}
