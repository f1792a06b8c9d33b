"""Processes that do the work of a search side by side; one that is killed is replaced."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import connection
from typing import Any

import torch

from src.callbacks import Interrupted
from src.callbacks.graceful_stop import handling, interrupt
from src.configs.errors import InputError
from src.terminal import streams
from src.training.failures import explain
from src.training.trainer import quieten

Work = Callable[..., None]
MOST_DEATHS = 10
"""Processes that may be killed one after the other without anything having come to its end."""


class Worker:
    """A process that does a part of the work; started anew, it is another process.

    Args:
        number: from 0.
        count: of all.
        work: what it does; a function of a module.
        args: of that.
    """

    def __init__(self, number: int, count: int, work: Work, args: tuple[Any, ...]) -> None:
        self.number, self.count, self.work, self.args = number, count, work, args
        self.start()

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.heard, told = context.Pipe(duplex=False)
        threads = max(1, torch.get_num_threads() // self.count)
        self.process = context.Process(target=_begin, args=(told, self.number, self.work, self.args))
        with set_for_children(OMP_NUM_THREADS=str(threads)):  # read when torch is imported
            self.process.start()
        told.close()

    @property
    def error(self) -> str:
        """Why it gave up; '' where it did not, or was killed."""
        with contextlib.suppress(EOFError):
            return self.heard.recv() if self.heard.poll() else ""
        return ""


def in_processes(count: int, work: Work, args: tuple[Any, ...], died: Callable[[int, int], None], ended: Any) -> None:
    """Do `work(*args)` in so many processes at once, until each has returned.

    Args:
        count: of processes.
        work: what each does. They agree among themselves on who does what.
        args: of it.
        died: is called with the number and the exit code of a process that was killed, before another takes its place.
        ended: returns how much has come to its end so far.

    Raises:
        InputError: a process has found something that the user can put right, or all are killed again and again.
        Interrupted: by a signal; the processes have been asked to stop, and have.
    """
    workers = [Worker(number, count, work, args) for number in range(count)]
    running, deaths, before = {*workers}, 0, ended()
    try:
        while running:
            connection.wait([one.process.sentinel for one in running], timeout=1.0)
            for one in [one for one in running if not one.process.is_alive()]:
                code = one.process.exitcode
                if code == 0:
                    running.remove(one)
                elif error := one.error:
                    raise InputError(error)
                else:
                    died(one.process.pid or 0, code or 0)
                    deaths, before = (0 if ended() != before else deaths) + 1, ended()
                    if deaths >= MOST_DEATHS:
                        raise InputError(f"the processes of the search were killed {deaths} times (exit code {code}).")
                    one.start()
    finally:
        for one in running:
            one.process.terminate()
        for one in running:
            one.process.join()


def _begin(told: Any, number: int, work: Work, args: tuple[Any, ...]) -> None:
    """Do the work in a new process: quietly, out of reach of the terminal's Ctrl-C, which is for the parent."""
    if hasattr(os, "setsid"):
        os.setsid()
    streams.guard_streams()
    one_device(number)
    quieten()
    _end_with_parent()
    try:
        with handling(interrupt):
            work(*args)
    except Interrupted as stop:
        sys.exit(stop.exit_code)
    except (InputError, OSError) as error:
        told.send(explain(error))
        sys.exit(1)


def _end_with_parent() -> None:
    """Have this process asked to stop when its parent is gone, however that ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def one_device(number: int) -> None:
    """Leave a process one of several GPUs; must come before the first use of one."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    there = named.split(",") if named else list(map(str, range(torch.cuda.device_count())))
    if len(there) > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = there[number % len(there)]


@contextlib.contextmanager
def set_for_children(**variables: str) -> Iterator[None]:
    """Set environment variables for processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


class Deadline:
    """A time at which what this process does is interrupted, as by SIGTERM; none where it is None.

    with Deadline(until) as deadline: ...
    """

    def __init__(self, until: float | None) -> None:
        self.until, self.over = until, False
        self.handled = contextlib.ExitStack()
        self.timer: threading.Timer | None = None

    def __enter__(self) -> Deadline:
        if self.until is not None:
            self.handled.enter_context(handling(interrupt))
            self.timer = threading.Timer(max(0.0, self.until - time.time()), self._end)
            self.timer.daemon = True
            self.timer.start()
        return self

    def _end(self) -> None:
        self.over = True
        os.kill(os.getpid(), signal.SIGTERM)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        if self.timer is not None:
            self.timer.cancel()
            try:
                self.timer.join()
            except Interrupted:  # it was just over
                return True
            finally:
                self.handled.close()
        return self.over and isinstance(error, Interrupted)
