"""Where the time of a training goes, by what Lightning tells its profiler."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from lightning.pytorch.profilers import Profiler
from typing_extensions import override

OF_ACTION = {
    "train_dataloader_next": "data",
    "batch_to_device": "data",
    "training_step": "forward",
    "backward": "backward",
    "optimizer_step": "optimiser",
    "save_checkpoint": "checkpoint",
}
"""Lightning's name of an action -> part. What happens within another action counts for the inner one alone."""
IN_STEP: tuple[str, ...] = ("data", "forward", "backward", "optimiser", "other")
PARTS: tuple[str, ...] = ("data", "forward", "backward", "optimiser", "validation", "checkpoint", "other")
EVERY = 50
"""On an accelerator one step in so many is measured, beginning with the second."""
_NOTHING = nullcontext()


class Stopwatch(Profiler):
    """Adds up the seconds of each of `PARTS`; 'data' is waiting for a batch and moving it to the device.

    Costs less than Lightning's profiler that does nothing, since it makes no generator for what is not measured.

    An accelerator works on while the host hands it more, so what the host sees of a step says little. There, only one
    step in `EVERY` is measured, with the device waited for at each boundary, and stands for the others; a batch that is
    fetched while the device is at work counts as waited for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.wait: Callable[[], None] | None = None
        """Waits for the accelerator; None on a CPU, where every step is measured."""
        self.exact, self.sampled, self.unsampled = (dict.fromkeys(PARTS, 0.0) for _ in range(3))
        self._into = self.exact
        self._part, self._outer = "other", list[str]()
        self._since = time.perf_counter()
        self._steps = 0
        self._actions: dict[str, AbstractContextManager[None]] = {}

    def begin(self, device: torch.device) -> None:
        """Begin to count, for a training on `device`."""
        if device.type in ("cuda", "mps"):
            self.wait = torch.get_device_module(device).synchronize
        self._since = time.perf_counter()

    @override
    def start(self, action_name: str) -> None:
        part = OF_ACTION.get(action_name.rpartition(".")[2])
        if part == "data" and self.wait is not None:
            self._steps += 1
            measured = self._steps % EVERY == 2
            if measured:  # what is queued of the steps before is theirs
                self.wait()
            self._flush()
            self._into = self.sampled if measured else self.unsampled
        self.enter(part or self._part)

    @override
    def stop(self, action_name: str) -> None:
        self.leave()

    @override
    def profile(self, action_name: str) -> AbstractContextManager[None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        found = self._actions.get(action_name)
        if found is None:
            part = OF_ACTION.get(action_name.rpartition(".")[2])
            found = self._actions[action_name] = _Timed(self, part) if part else _NOTHING
        return found

    def enter(self, part: str) -> None:
        """Begin a part within the present one; a batch of a validation is validation."""
        if part == "validation" and self.wait is not None:  # as above
            self.wait()
        self._flush()
        self._outer.append(self._part)
        if self._part != "validation" or part == "checkpoint":
            self._part = part

    def leave(self) -> None:
        """End what was entered last."""
        self._flush()
        self._part = self._outer.pop()

    def _flush(self) -> None:
        """Count the time since the last boundary for the present part."""
        if self.wait is not None and self._into is not self.unsampled:
            self.wait()
        now = time.perf_counter()
        self._into[self._part] += now - self._since
        self._since = now

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each part so far; the steps not measured are divided as those that were."""
        if self.wait is not None:
            self.wait()
        self._flush()
        found = {part: self.exact[part] + self.sampled[part] + self.unsampled[part] for part in PARTS}
        if measured := sum(self.sampled[part] for part in IN_STEP):
            unmeasured = sum(self.unsampled[part] for part in IN_STEP)
            for part in IN_STEP:
                found[part] += unmeasured * self.sampled[part] / measured - self.unsampled[part]
        return found


class _Timed:
    """An action of a part, to be entered any number of times."""

    __slots__ = ("part", "stopwatch")

    def __init__(self, stopwatch: Stopwatch, part: str) -> None:
        self.stopwatch, self.part = stopwatch, part

    def __enter__(self) -> None:
        self.stopwatch.enter(self.part)

    def __exit__(self, *error: object) -> None:
        self.stopwatch.leave()


def shares(seconds: dict[str, float]) -> dict[str, float]:
    """Return each part's share of the whole, with four digits; they add up to 1."""
    total = sum(seconds.values())
    found = {part: round(spent / total, 4) for part, spent in seconds.items() if part != "other"}
    return found | {"other": round(1 - sum(found.values()), 4)}
