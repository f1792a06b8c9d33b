"""Whether a run is at work: its heartbeat, its process, and its children."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

SILENT = 300.0
"""Seconds without a sign of life after which a run counts as dead; it gives one a minute."""


def process() -> dict[str, Any]:
    """Return what the record says while this process works on the run."""
    return {"state": "running", "reason": "", "host": socket.gethostname(), "pid": os.getpid()}


@contextlib.contextmanager
def heartbeat(run: Path, every: float = 60.0) -> Iterator[None]:
    """Touch `heartbeat` in the run directory now and again, so that others see that the run is alive."""
    ended = threading.Event()

    def beat() -> None:
        while True:
            with contextlib.suppress(OSError):  # a full disk is the training's to report
                (run / "heartbeat").touch()
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
    host, has given no sign of life for `SILENT` seconds.
    """
    if record["state"] != "running":
        return record["state"]
    if record.get("host") == socket.gethostname() and not psutil.pid_exists(record.get("pid", -1)):
        return "died"
    try:
        silent = time.time() - max((run / name).stat().st_mtime for name in ("run.json", "heartbeat"))
    except OSError:  # it has not had its first
        silent = time.time() - (run / "run.json").stat().st_mtime
    return "died" if silent > SILENT else "running"


def children(run: Path) -> list[Path]:
    """Return the directories of a run's children in order: folds of a cross-validation, members of an ensemble."""
    found = (path.parent for path in run.glob("*-*/run.json"))
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))
