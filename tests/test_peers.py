"""One of two processes fails alone: both end soon, and the record says why."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import two_processes
import warm

FILE = Path(__file__).with_name("failing.py")
SAID = {"setup": "process 1: no disk there", "step": "process 1: RuntimeError: no memory left"}
LONGEST = 30.0
"""Seconds from the failure to the end of both. The other would wait for half an hour."""


@pytest.mark.parametrize(
    ("launcher", "where"),
    [
        ("torchrun", "setup"),
        ("lightning", "step"),
        pytest.param("lightning", "setup", marks=pytest.mark.slow),
        pytest.param("torchrun", "step", marks=pytest.mark.slow),
    ],
)
def test_both_end_and_the_record_says_why(launcher: str, where: str, houses: Path, tmp_path: Path) -> None:
    if launcher == "torchrun":
        processes = two_processes.start([FILE, houses, where])
    else:  # starts the second itself
        processes = [warm.start([FILE, houses, where])]
    try:
        said = [process.communicate(timeout=280)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    ended = time.time()
    assert all(process.returncode for process in processes), said
    (path,) = (tmp_path / "runs").glob("*/*/run.json")
    record = json.loads(path.read_text())
    assert (record["state"], record["reason"]) == ("failed", SAID[where]), said
    assert ended - path.stat().st_mtime < LONGEST, "it was written when one had failed"
