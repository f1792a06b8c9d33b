"""What a run takes of its machine, where the machine tells: memory at its peak, and energy."""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from src.runs.values import Values

ZONES = Path("/sys/class/powercap")
"""Where Linux has the energy counters of processors (RAPL); on most machines root alone may read them."""


class Used:
    """Memory and energy from now on, and energy of all programs: the counters know no processes.

    `look` has to be called every few minutes, since a counter starts at 0 again beyond some hundred kilojoules.
    """

    def __init__(self) -> None:
        self._zones = [path for path in sorted(ZONES.glob("intel-rapl:*")) if _is_package(path)]
        self._last = [_microjoules(zone) for zone in self._zones]
        self._joules, self._looking = 0.0, threading.Lock()  # the heartbeat looks, and the run at its end
        self._gpu: torch.device | None = None
        self._gpu_before: float | None = None

    def begin_on(self, device: torch.device) -> None:
        """Begin to measure the device of the training."""
        if device.type == "cuda":
            self._gpu, self._gpu_before = device, _joules_of(device)
            if torch.cuda.is_initialized():
                torch.cuda.reset_peak_memory_stats(device)

    def look(self) -> None:
        """Add up what the processors took since the last look."""
        with self._looking:
            for at, (zone, last) in enumerate(zip(self._zones, self._last, strict=True)):
                self._last[at] = now = _microjoules(zone)
                if now is not None and last is not None:
                    around = 0 if now >= last else _microjoules(zone, "max_energy_range_uj") or 0
                    self._joules += (now - last + around) / 1e6

    def values(self, before: Mapping[str, Any]) -> Values:
        """Return 'peak_memory', bytes of the 'process' and of tensors on the 'gpu', and 'energy_j', joules of the
        'processors' and the 'gpu'; without what is not told.

        Args:
            before: the record of a run that went on: the greater memory and the sum of the energies are returned.
        """
        self.look()
        memory, energy = {"process": _process_peak()}, dict[str, float | None]()
        energy["processors"] = self._joules if None not in self._last and self._zones else None
        if self._gpu is not None:
            memory["gpu"] = torch.cuda.max_memory_allocated(self._gpu)
            now = _joules_of(self._gpu)
            energy["gpu"] = None if now is None or self._gpu_before is None else now - self._gpu_before
        peaks, spent = before.get("peak_memory", {}), before.get("energy_j", {})
        if "wall_s" in before:  # else it is not known what the first part took
            energy = {name: joules for name, joules in energy.items() if name in spent}
        found: Values = {
            "peak_memory": {name: max(now, peaks.get(name, 0)) for name, now in memory.items() if now is not None},
            "energy_j": {
                name: round(joules + spent.get(name, 0), 1) for name, joules in energy.items() if joules is not None
            },
        }
        return found


def _is_package(zone: Path) -> bool:
    """Return whether a zone is a whole processor: the others are parts of one, or count it again."""
    try:
        return (zone / "name").read_text(encoding="ascii").startswith("package")
    except OSError:
        return False


def _microjoules(zone: Path, name: str = "energy_uj") -> int | None:
    try:
        return int((zone / name).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _joules_of(gpu: torch.device) -> float | None:
    """Return what a GPU has taken since its driver was loaded; None without nvidia-ml-py or where it counts nothing."""
    with contextlib.suppress(Exception):  # pynvml has an error class for each of thirty causes
        pynvml: Any = importlib.import_module("pynvml")
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(gpu).uuid}")
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000
    return None


def _process_peak() -> int | None:
    try:
        import resource
    except ImportError:  # as on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
