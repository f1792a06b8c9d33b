"""How fast an export answers, measured against PyTorch side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

SECONDS = 4.0
"""That are measured, at the most."""
MIN_TURNS, MAX_TURNS = 5, 200
"""Turns."""


def in_turns(export: Callable[[], Any], pytorch: Callable[[], Any]) -> dict[str, Any]:
    """Return the median milliseconds of both, for one example and by one thread, and their ratio.

    Args:
        export: answers for one example.
        pytorch: the same by the run's networks, in float32.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    calls, taken = {"export": export, "pytorch": pytorch}, {"export": list[float](), "pytorch": list[float]()}
    try:
        for call in calls.values():
            call()
        ends = time.perf_counter() + SECONDS
        while len(taken["export"]) < MAX_TURNS and (time.perf_counter() < ends or len(taken["export"]) < MIN_TURNS):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                taken[name].append(1000 * (time.perf_counter() - start))
    finally:
        torch.set_num_threads(threads)
    ratios = [one / other for one, other in zip(taken["pytorch"], taken["export"], strict=True)]
    return {
        "export_ms": statistics.median(taken["export"]),
        "pytorch_ms": statistics.median(taken["pytorch"]),
        "ratio": statistics.median(ratios),
        "turns": len(ratios),
        "batch": 1,
        "threads": 1,
    }
