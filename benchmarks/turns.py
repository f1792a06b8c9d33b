"""Contenders that train in turns, so that all have the same machine and minutes: A B C A B C."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback

PROCESSES = multiprocessing.get_context("fork")
"""Contenders are forked before anything is computed, so they need no pickling."""


class Turns:
    """Lets one contender train at a time, `steps` steps a turn (0: to its end), and times its turns."""

    def __init__(self, steps: int) -> None:
        self.steps, self.left, self.examples = steps, 0, 0
        self.go, self.done, self.trained = PROCESSES.Event(), PROCESSES.Event(), PROCESSES.Value("q")

    def step(self, examples: int) -> None:
        """Called by the contender after each optimiser step."""
        self.examples += examples
        self.left -= 1
        if self.left == 0:
            self.trained.value = self.examples
            self.go.clear()
            self.done.set()
            self.wait()

    def wait(self) -> None:
        """Called by the contender before its first step; returns when its turn comes."""
        self.go.wait()
        self.left, self.examples = self.steps, 0

    def turn(self) -> float:
        """Let the contender train for a turn; return its examples/s."""
        self.done.clear()
        started = time.perf_counter()
        self.go.set()
        self.done.wait()
        return self.trained.value / (time.perf_counter() - started)


class Steps(Callback):
    """Tells `Turns` of each step of a Lightning training."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.turns.step(len(batch["index"]))


def race(trained: dict[str, Callable[[Turns], Any]], rounds: int, steps: int) -> None:
    """Print examples/s of each contender, and the median over the rounds of the first one's ratio to it."""
    turns = {name: Turns(steps) for name in trained}
    speeds: dict[str, list[float]] = {name: [] for name in trained}

    def one(name: str) -> None:
        turns[name].wait()
        trained[name](turns[name])

    processes = [PROCESSES.Process(target=one, args=(name,)) for name in trained]
    for process in processes:
        process.start()
    for round_ in range(rounds + 1):
        for name, turn in turns.items():
            speed = turn.turn()
            if round_:
                speeds[name].append(speed)
    for process in processes:
        process.kill()
    first = next(iter(trained))
    print(f"{'':<22}{'examples/s':>12}{'range':>18}{'ours/it':>9}{'range':>12}")
    for name, found in speeds.items():
        ratios = [a / b for a, b in zip(speeds[first], found, strict=True)]
        spread, of = f"{min(found):.1f}-{max(found):.1f}", f"{min(ratios):.2f}-{max(ratios):.2f}"
        middle, ratio = statistics.median(found), statistics.median(ratios)
        print(f"{name:<22}{middle:>12.1f}{spread:>18}{ratio:>9.2f}{of:>12}")
