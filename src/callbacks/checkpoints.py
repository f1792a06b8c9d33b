"""Checkpoints: `best` and `last`, tensors and plain values only, each written whole and read back."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from typing_extensions import override

from src.configs.errors import InputError
from src.datamodules import DataModule
from src.resources.files import replacing
from src.resources.weights_files import load_weights
from src.terminal import console


@dataclass(frozen=True)
class Every:
    """How often `last.ckpt` is saved within an epoch: after so many steps, or so many seconds."""

    steps: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, text: str) -> Every:
        """Read '500' as steps and '10min' as minutes.

        Raises:
            InputError: neither of the two.
        """
        found = re.fullmatch(r"(\d+) ?(min)?", text)
        if not found or not int(found[1]):
            raise InputError(f"--checkpoint-every {text}: steps, such as 500, or minutes, such as 10min.")
        return cls(seconds=60 * int(found[1])) if found[2] else cls(steps=int(found[1]))


AGREE = 20
"""Several processes agree in one step of so many whether to save or stop: for each question all wait for the last."""


def is_safe_to_checkpoint(trainer: Any, batch_idx: int) -> bool:
    """Return whether a checkpoint may be made after this batch: it would hold all that was, no gradients of an
    accumulation and no row or validation that is due right after it; of several processes in one step of `AGREE`.
    """
    if trainer.world_size > 1 and trainer.global_step % AGREE != 1:
        return False
    done, every = batch_idx + 1, trainer.log_every_n_steps
    logs = every > 1 and trainer.global_step % every == 0
    validates = trainer.is_last_batch or done % (trainer.val_check_batch or 1) == 0
    return not (logs or validates or done % trainer.accumulate_grad_batches)


class Checkpoints(ModelCheckpoint):
    """Lightning's ModelCheckpoint keeping `best.ckpt` and `last.ckpt`, from which a run goes on as if never stopped.

    `last` is saved after every epoch and, within one, as soon after each `every` as a checkpoint can hold all. A model
    that is validated in full before training, such as a solved head, may be the best too: see
    `Trainer(num_sanity_val_steps=-1)`. A monitored NaN, such as the AUROC of a split of one class, is never the best;
    the last epoch is, until there is a number.
    """

    def __init__(self, folder: Path, *, monitor: str, mode: Literal["min", "max"], every: Every | None = None) -> None:
        super().__init__(
            dirpath=folder, filename="best", monitor=monitor, mode=mode, save_last=False, enable_version_counter=False
        )
        self.last = folder / "last.ckpt"
        self.every = every or Every()
        self.saved_step, self.saved_at = 0, time.monotonic()

    def _save_last(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.last)
        self.saved_step, self.saved_at = trainer.global_step, time.monotonic()

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.saved_step, self.saved_at = trainer.global_step, time.monotonic()
        for callback in trainer.early_stopping_callbacks:
            if isinstance(callback, EarlyStopping) and callback.wait_count >= callback.patience:
                trainer.should_stop = True  # the run was killed after it had stopped; no checkpoint says that it had

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if not is_safe_to_checkpoint(trainer, batch_idx):
            return
        if self.every.steps:
            due = trainer.global_step - self.saved_step >= self.every.steps
        else:  # clocks differ between machines
            late = time.monotonic() - self.saved_at >= (self.every.seconds or float("inf"))
            due = trainer.strategy.reduce_boolean_decision(late, all=False)
        if due:
            self._save_last(trainer)

    def _monitored(self, trainer: Trainer) -> bool:
        """Return whether there is a number to choose by."""
        value = trainer.callback_metrics.get(str(self.monitor))
        return value is not None and not bool(value.isnan())

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._monitored(trainer) or trainer.sanity_checking:
            super().on_validation_end(trainer, pl_module)

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save `last` after every epoch; Lightning's own `save_last` does so only along with a new best.

        Where a module of one's own logs no such metric as is monitored, or it was NaN so far, the last epoch is the
        best.
        """
        if self._monitored(trainer):
            super().on_train_epoch_end(trainer, pl_module)
        elif self.best_model_score is None:
            self.best_model_path = self.format_checkpoint_name({})
            trainer.save_checkpoint(self.best_model_path)
        self._save_last(trainer)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_end(trainer, pl_module)
        if self.best_model_score is None and trainer.is_global_zero:
            logged = ", ".join(trainer.callback_metrics) or "nothing"
            why = f"is not logged, so best.ckpt is the last epoch; logged: {logged}"
            if self.monitor in trainer.callback_metrics:
                why = "was NaN in every validation, so best.ckpt is the last epoch; choose another --monitor"
            console.line("NOTE", f"{self.monitor} {why}")

    @override
    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add where in the data the training is, which Lightning counts but does not tell the loader."""
        loop: Any = trainer.fit_loop
        epochs, batches = loop.epoch_progress.current, loop.epoch_loop.batch_progress.current.processed
        if epochs.processed == epochs.started:  # the epoch is over
            batches = 0
        checkpoint["position"] = (epochs.processed, batches)

    @override
    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        datamodule: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(datamodule, DataModule):
            datamodule.position = checkpoint.get("position", (0, 0))

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
        if self._monitored(trainer):
            self.best_model_score = self.kth_value = score
            self.best_k_models = {path: score}
            for callback in trainer.early_stopping_callbacks:
                if isinstance(callback, EarlyStopping) and callback.monitor == self.monitor:
                    callback.best_score = score
        trainer.save_checkpoint(path)
        for logger in trainer.loggers:
            logger.log_metrics({name: float(value) for name, value in values.items()} | {"epoch": -1}, step=0)


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint to a temporary file, reads it back as weights only, and then renames it; reads no other.

    No crash, full disk or lack of permission leaves a broken file or takes the one before it.
    """

    @override
    def load_checkpoint(
        self, path: str | Path, map_location: Any = lambda storage, loc: storage, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return load_weights(Path(path), map_location)

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        try:
            with replacing(Path(path)) as temporary:
                with open(temporary, "wb") as file:
                    torch.save(checkpoint, file)
                    file.flush()
                    os.fsync(file.fileno())
                load_weights(temporary, "meta")
        except (OSError, RuntimeError) as error:  # torch.save turns a full disk into a RuntimeError while closing
            cause = error.__context__ if isinstance(error.__context__, OSError) else error
            reason = cause.strerror if isinstance(cause, OSError) else cause
            raise InputError(
                f"{path}: the checkpoint cannot be saved ({reason}); the one before it is as it was."
            ) from error
