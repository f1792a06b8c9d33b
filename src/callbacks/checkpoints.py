"""Checkpoints: `best` and `last`, tensors and plain values only, each written whole and read back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from typing_extensions import override

from src.experiment import InputError
from src.records import replacing


class Checkpoints(ModelCheckpoint):
    """Lightning's ModelCheckpoint keeping `best.ckpt` and `last.ckpt`.

    A model that is validated in full before training, such as a solved head, may be the best too: see
    `Trainer(num_sanity_val_steps=-1)`.
    """

    def __init__(self, folder: Path, *, monitor: str, mode: Literal["min", "max"]) -> None:
        super().__init__(
            dirpath=folder, filename="best", monitor=monitor, mode=mode, save_last=False, enable_version_counter=False
        )
        self.last = folder / "last.ckpt"

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save `last` after every epoch; Lightning's own `save_last` does so only along with a new best."""
        super().on_train_epoch_end(trainer, pl_module)
        trainer.save_checkpoint(self.last)

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state of a run that may have been moved since: the best is in this run's folder."""
        best = self.format_checkpoint_name({})
        here = {"dirpath": self.dirpath, "best_model_path": best, "kth_best_model_path": best, "last_model_path": ""}
        scores = dict.fromkeys((best,) if state_dict["best_k_models"] else (), state_dict["best_model_score"])
        super().load_state_dict(state_dict | here | {"best_k_models": scores})

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the start as the best so far and log its metrics as epoch 0; the first epoch is Lightning's 0, our 1."""
        if trainer.num_sanity_val_steps != float("inf"):
            return
        values = trainer.callback_metrics
        score = values[str(self.monitor)]
        path = self.format_checkpoint_name({})
        self.best_model_path = self.kth_best_model_path = path
        self.best_model_score = self.kth_value = score
        self.best_k_models = {path: score}
        if trainer.early_stopping_callback is not None:
            trainer.early_stopping_callback.best_score = score
        trainer.save_checkpoint(path)
        for logger in trainer.loggers:
            logger.log_metrics({name: float(value) for name, value in values.items()} | {"epoch": -1}, step=0)


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint to a temporary file, reads it back as weights only, and then renames it.

    No crash, full disk or lack of permission leaves a broken file or takes the one before it.
    """

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        try:
            with replacing(Path(path)) as temporary:
                with open(temporary, "wb") as file:
                    torch.save(checkpoint, file)
                    file.flush()
                    os.fsync(file.fileno())
                torch.load(temporary, map_location="meta", weights_only=True)
        except (OSError, RuntimeError) as error:  # torch.save turns a full disk into a RuntimeError while closing
            cause = error.__context__ if isinstance(error.__context__, OSError) else error
            reason = cause.strerror if isinstance(cause, OSError) else cause
            raise InputError(
                f"{path}: the checkpoint cannot be saved ({reason}); the one before it is as it was."
            ) from error
