"""Contenders that work in turns, so that all have the same machine and minutes: A B C A B C.

Each is a process of its own, forked before anything is computed, with its own threads and data loaders. It goes on only
in its turns and is stopped (SIGSTOP) in those of the others, workers included, so that none computes ahead or spins.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback

PROCESSES = multiprocessing.get_context("fork")
"""So that contenders need no pickling."""


class Turns:
    """Lets a contender work for `steps` steps at a time, and times these turns."""

    def __init__(self, steps: int) -> None:
        self.steps, self.left, self.amount = steps, 0, 0
        self._mine, self._its = PROCESSES.Pipe()

    def step(self, amount: int) -> None:
        """Called by the contender after each step: so many examples (or whatever is counted) are done."""
        self.amount += amount
        self.left -= 1
        if self.left == 0:
            if torch.cuda.is_initialized():  # what is queued on the GPU is of this turn
                torch.cuda.synchronize()
            self._its.send(self.amount)
            self.wait()

    def wait(self) -> None:
        """Called by the contender before its first step; returns when its turn comes."""
        self._its.recv()
        self.left, self.amount = self.steps, 0

    def fail(self, why: str) -> None:
        """Called for a contender that cannot go on."""
        self._its.send(why)

    def turn(self, process: Any) -> float | str:
        """Let the contender work for a turn; return what it did a second, or why it cannot go on."""
        self._mine.send("go")
        started = time.perf_counter()
        with contextlib.suppress(ProcessLookupError):  # it has ended, as its pipe says
            os.killpg(process.pid, signal.SIGCONT)
        while not self._mine.poll(1.0):
            if not process.is_alive():
                return f"its process ended with code {process.exitcode}"
        seconds = time.perf_counter() - started
        os.killpg(process.pid, signal.SIGSTOP)
        found = self._mine.recv()
        return found if isinstance(found, str) else found / seconds


class Steps(Callback):
    """Tells `Turns` of each step of a Lightning training."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.turns.step(len(batch["index"] if isinstance(batch, dict) else batch[0]))


@dataclass(frozen=True)
class Contender:
    """One of those who do the same work."""

    name: str
    train: Callable[[Turns], object]
    """Works until it is ended, and calls `Turns.step`."""
    steps: int = 1
    """Of a turn."""
    against: str = ""
    """The contender whose ratio to this one is asked."""
    mark: float | None = None
    """Least such ratio that is asked."""


Speeds = dict[str, list[float] | str]
"""Contender -> what it did a second in each round, or why it could not go on."""


def race(contenders: list[Contender], rounds: int) -> Speeds:
    """Let the contenders take turns; the first round is for warm-up and is not counted."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # who ends a race ends its contenders too
    turns = {one.name: Turns(one.steps) for one in contenders}
    processes = {one.name: PROCESSES.Process(target=_work, args=(one, turns[one.name])) for one in contenders}
    speeds: Speeds = {name: [] for name in turns}
    try:
        for process in processes.values():
            process.start()
        for round_ in range(rounds + 1):
            for name, found in speeds.items():
                if isinstance(found, str):
                    continue
                speed = turns[name].turn(processes[name])
                if isinstance(speed, str):
                    speeds[name] = speed
                elif round_:
                    found.append(speed)
    finally:
        signal.signal(signal.SIGTERM, before)
        for process in processes.values():
            if process.pid and process.is_alive():
                with contextlib.suppress(ProcessLookupError):  # it has ended just now
                    os.killpg(process.pid, signal.SIGKILL)
    return speeds


def _work(contender: Contender, turns: Turns) -> None:
    os.setpgrp()  # with its workers, to be stopped and ended together
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    turns.wait()
    try:
        contender.train(turns)
        turns.fail("it came to its end before the race did")
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        turns.fail(f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"[:300])
