"""Whether a run is at work: its process, its heartbeat, and its children."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

CHILD = re.compile(r"(fold|member)-[1-9][0-9]*")
"""The name of a child's directory."""
SETTING_UP = "setting up"
"""Why a run that has not begun to train is not done."""
SILENT = 300.0
"""Seconds without a sign of life after which a run of another host counts as dead; it gives one a minute."""


def process() -> dict[str, Any]:
    """Return what the record says from when this process begins to work on the run."""
    return {"state": "running", "reason": SETTING_UP, **writer()}


def writer() -> dict[str, Any]:
    """Return what tells this process from every other: its host, its number, and when it was started."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "pid_started": started(os.getpid())}


def started(pid: int) -> float | None:
    """Return the seconds from the machine's start to the process's, which no change of the clock moves; None: gone."""
    try:
        return round(psutil.Process(pid).create_time() - psutil.boot_time(), 1)
    except psutil.Error:
        return None


@contextlib.contextmanager
def heartbeat(run: Path, also: Callable[[], object] = lambda: None, every: float = 60.0) -> Iterator[None]:
    """Touch `heartbeat` in the run directory now and again, so that other hosts see that the run is alive.

    Args:
        run: the run directory.
        also: called as often.
        every: seconds.
    """
    ended = threading.Event()

    def beat() -> None:
        while True:
            with contextlib.suppress(OSError):  # a full disk is the training's to report
                (run / "heartbeat").touch()
            also()
            if ended.wait(every):
                return

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def state_of(run: Path, record: Mapping[str, Any]) -> str:
    """Return a run's state; 'died' is never written but seen: it says running, but its process is gone or, on another
    host, has given no sign of life for `SILENT` seconds. On this host a process that lives, be it stopped, is running.
    """
    if record["state"] != "running":
        return record["state"]
    if record.get("host") == socket.gethostname():
        now = started(record["pid"])
        if now is None or now != record.get("pid_started", now):
            return "died"  # its number is nobody's, or another's now
        if "pid_started" in record:
            return "running"
    try:
        silent = time.time() - max((run / name).stat().st_mtime for name in ("run.json", "heartbeat"))
    except OSError:  # it has not had its first
        silent = time.time() - (run / "run.json").stat().st_mtime
    return "died" if silent > SILENT else "running"


def in_words(now: str) -> str:
    """Return a state as a predicate: 'is running', 'has died'."""
    return "has died" if now == "died" else f"is {now}"


def children(run: Path) -> list[Path]:
    """Return the directories of a run's children in order: folds of a cross-validation, members of an ensemble."""
    found = (path.parent for path in run.glob("*-*/run.json") if CHILD.fullmatch(path.parent.name))
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))
