"""The first training images as the network sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torchvision.utils import make_grid

from src.runs.tensorboard import VISUALS, TensorBoard


class TrainingImages(Callback):
    """Writes the first batch of the first two epochs to TensorBoard, cropped, flipped and coloured as trained on.

    Where images of a batch are mixed, that is still to come.
    """

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0 and trainer.current_epoch < 2 and isinstance(batch, Mapping) and "image" in batch:
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoard):
                    grid = make_grid(batch["image"][:32])
                    logger.experiment.add_image(f"{VISUALS}/train/images", grid, trainer.global_step)
