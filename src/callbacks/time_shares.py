"""What of the training's time went into what."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from src.callbacks.stopwatch import PARTS, Stopwatch, shares
from src.runs.records import Record
from src.runs.tensorboard import TensorBoard


class TimeShares(Callback):
    """Records `time`, each part's share of the time in `Trainer.fit`, and shows it in TensorBoard: the main process's.

    A run that goes on adds to what its checkpoint says; what a killed one did after that checkpoint is in no share.
    Nothing is recorded where `trainer_kwargs()` has set a profiler of its own.

    Args:
        record: the run's.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self.before = dict.fromkeys(PARTS, 0.0)
        self.stopwatch: Stopwatch | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        profiler: Any = trainer.profiler  # pyright: ignore[reportAttributeAccessIssue]
        if stage == "fit" and isinstance(profiler, Stopwatch):
            self.stopwatch = profiler
            profiler.begin(trainer.strategy.root_device)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.stopwatch is not None:
            self.stopwatch.enter("validation")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.stopwatch is not None:
            self.stopwatch.leave()

    def state_dict(self) -> dict[str, Any]:
        now = self.stopwatch.seconds() if self.stopwatch is not None else {}
        return {part: spent + now.get(part, 0.0) for part, spent in self.before.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.before = {part: float(state_dict[part]) for part in PARTS}

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.stopwatch is None or not trainer.is_global_zero:
            return
        found = shares(self.state_dict())
        self.record.update(time=found)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoard):
                logger.log_table(
                    "time", [["part", "share"], *([part, f"{share:.1%}"] for part, share in found.items())]
                )
