"""What evaluating the best checkpoint leaves behind: predictions, calibration, and figures of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, distributed

from src.datamodules import DataModule
from src.datamodules.capabilities import ShowsExamples
from src.resources.files import atomic_write
from src.runs.predictions import predictions_csv
from src.runs.records import Record
from src.runs.tensorboard import VISUALS, TensorBoard
from src.tasks import Objective
from src.tasks.objectives.figures import draw_images, write_texts

MOST_MISTAKES, MOST_IMAGES = 16, 8
"""Texts that are shown, and images: more could not be seen on a card of TensorBoard."""


class Evaluation(Callback):
    """Collects the outputs of `Trainer.validate` and `Trainer.test` (not of the validations while training) and writes
    `predictions_<split>.csv`, the objective's figures and the worst mistakes. What the objective chooses on validation,
    such as a temperature or thresholds, goes to the record.

    The CSV has the network's own probabilities, from which the metrics can be computed again: `predict.py` is what
    applies the temperature.

    Args:
        record: the run's.
        datamodule: the data that is evaluated; names the examples and shows them.
        objective: what is predicted.
        tensorboard_logger: where the figures go; None: none are drawn.
    """

    def __init__(
        self, record: Record, datamodule: DataModule, objective: Objective, tensorboard_logger: TensorBoard | None
    ) -> None:
        self.record, self.datamodule, self.objective = record, datamodule, objective
        self.tensorboard_logger = tensorboard_logger
        self.rows: list[dict[str, Tensor]] = []
        self.began = 0.0

    def _collect(self, outputs: Any) -> None:
        if isinstance(outputs, Mapping) and {"index", "target"} < outputs.keys():
            self.rows.append({name: value.cpu() for name, value in outputs.items() if name != "loss"})

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.began = time.perf_counter()

    on_test_start = on_validation_start

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if trainer.validating:
            self._collect(outputs)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._collect(outputs)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.validating:
            self._write(trainer, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, "test")

    def _write(self, trainer: Trainer, split: str) -> None:
        columns = gather(self.rows, trainer.world_size)
        self.rows = []
        if columns and trainer.is_global_zero:
            seconds = time.perf_counter() - self.began
            self.record.update(predicted_per_s=round(len(columns["index"]) / seconds, 2))
            self.leave(split, columns)

    def leave(self, split: str, columns: dict[str, np.ndarray]) -> None:
        """Write and draw what a split's predictions are.

        Args:
            split: 'val' or 'test'.
            columns: 'index' and 'target' [examples, ...], and the objective's predictions.
        """
        index, target = columns.pop("index").tolist(), columns.pop("target")
        names, objective = self.datamodule.ids(split), self.objective
        calibration = self._calibrate(split, columns, target)
        shown = objective.columns(columns, decided=objective.decide(columns, calibration))
        text = predictions_csv([str(names[i]) for i in index], shown, target=objective.target_column(target))
        atomic_write(self.record.folder / f"predictions_{split}.csv", text)
        if self.tensorboard_logger is not None:
            self._show(self.tensorboard_logger.experiment, split, columns, target, calibration, index)

    def _show(
        self,
        writer: Any,
        split: str,
        columns: dict[str, np.ndarray],
        target: np.ndarray,
        calibration: dict[str, Any],
        index: list[int],
    ) -> None:
        """Draw the objective's figures and show the worst mistakes in TensorBoard."""
        objective = self.objective
        for name, figure in objective.figures(columns, target, calibration):
            writer.add_figure(f"{VISUALS}/{split}/{name}", figure)
        worst, titles, _ = objective.mistakes(columns, target, MOST_MISTAKES, calibration)
        if len(worst) and isinstance(self.datamodule, ShowsExamples):
            examples = self.datamodule.examples(split, [index[i] for i in worst])
            if isinstance(examples, Tensor):
                writer.add_figure(f"{VISUALS}/{split}/worst", draw_images(examples[:MOST_IMAGES], titles[:MOST_IMAGES]))
            else:
                writer.add_text(f"{split}/worst", write_texts(examples, titles))

    def _calibrate(self, split: str, predicted: dict[str, np.ndarray], target: np.ndarray) -> dict[str, Any]:
        """Choose the calibration on val, see what it gives on test, and keep both in the record."""
        before = self.record.get("calibration", {})
        if split == "val":
            kept = self.objective.calibrate(predicted, target)
            kept |= {"test": before["test"]} if "test" in before else {}
        else:
            judged = self.objective.judge(predicted, target, before)
            kept = before | ({"test": judged} if judged else {})
        if kept:
            self.record.update(calibration=kept)
        return kept


def gather(rows: Sequence[dict[str, Tensor]], world_size: int) -> dict[str, np.ndarray]:
    """Join the batches of all devices in the first process, in the order of 'index'; {} in the others, and where no
    step returned predictions."""
    parts = [{name: torch.cat([row[name] for row in rows]) for name in rows[0]}] if rows else []
    if world_size > 1:
        parts = gathered(parts)
    if not parts:
        return {}
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    order = joined["index"].argsort()
    return {name: column[order].numpy() for name, column in joined.items()}


def gathered(parts: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Return the parts of all processes in the first, nothing in the others, which would have no use for them."""
    first = distributed.get_rank() == 0
    everyone: list[list[dict[str, Tensor]]] = [[]] * distributed.get_world_size()
    group: Any = distributed.new_group(backend="gloo")  # they are on the CPU; NCCL would copy all to the GPU first
    distributed.gather_object(parts, everyone if first else None, dst=0, group=group)
    distributed.destroy_process_group(group)
    return [part for shard in everyone for part in shard]
