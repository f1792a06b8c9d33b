"""What every task shares: one step for training, validation and test, and the optimiser that an `Optim` describes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerConfig, OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MetricCollection

from src.configs.optim import Optim
from src.tasks.optim import OneCycle, build_optimizer, is_decayed, rate_factor, require_optimizer

Batch = dict[str, Tensor]
Stage = Literal["train", "val", "test"]


class Model(Protocol):
    """What a task asks of a network besides being a `nn.Module`."""

    weights_source: str

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return the parameters by depth, from the input to the head."""
        ...


class Task(LightningModule):
    """Base of the tasks. A subclass gives `_step`; the rest of the training follows from `optim`.

    Args:
        model: the network.
        optim: optimiser and schedule.

    Raises:
        InputError: there is no such optimiser.
    """

    cached_features: Literal["no", "start", "probe"] = "no"
    """What the features of a frozen backbone, computed once, are for: nothing, a solved head to start from, or that and
    all of the training. The runner computes them with `features` and hands them to `start_from_features`."""

    def __init__(self, model: nn.Module, optim: Optim) -> None:
        super().__init__()
        require_optimizer(optim.name)
        self.model = model
        self.optim = optim
        self.train_metrics = MetricCollection({})
        """Of a training epoch; `_step` updates them."""
        self._sums = torch.zeros(2)  # losses and examples of the epoch so far
        self._last_loss = torch.zeros(())

    @property
    def weights_source(self) -> str:
        """Where the model's first weights came from."""
        return cast(Model, self.model).weights_source

    def _step(self, batch: Batch, stage: Stage) -> dict[str, Tensor]:
        """Return 'loss', and for validation and test what predictions are made of; log the stage's metrics."""
        raise NotImplementedError

    def features(self, batch: Batch) -> Tensor:
        """Return what the frozen part of the model makes of a batch."""
        raise NotImplementedError(f"{type(self).__name__} keeps no features")

    def start_from_features(self, kept: Mapping[str, Mapping[str, Tensor]]) -> str:
        """Take the features of 'train' and 'val' before training; return a line for the summary."""
        raise NotImplementedError(f"{type(self).__name__} keeps no features")

    def try_out(self, epochs: int) -> None:
        """Raise an InputError where the network cannot take what a training of so many epochs would give it."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self._step(batch, "train")["loss"]
        mean, examples = loss.detach(), len(batch["index"])
        self._sums += torch.stack([mean * examples, torch.full_like(mean, examples)])
        self._last_loss = mean
        if self.optim.l1:
            loss = loss + self.optim.l1 * torch.stack([p.abs().sum() for p in self.decayed()]).sum()
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        if (self.global_step + 1) % cast(Any, self.trainer).log_every_n_steps == 0:
            rate = optimizer.param_groups[0]["lr"]
            self._write({"train/loss_step": self._last_loss, "train/lr": rate}, self.global_step)

    def _write(self, values: Mapping[str, Any], step: int) -> None:
        """Hand values to the loggers at once. `log` does so later, and costs as much as a step of a tiny model."""
        numbers = {name: float(value) for name, value in values.items()} | {"epoch": self.current_epoch}
        for logger in self.loggers:
            logger.log_metrics(numbers, step=step)

    def on_train_start(self) -> None:
        self._sums = self._sums.to(self.device)

    def on_train_epoch_start(self) -> None:
        self._sums = torch.zeros(2, device=self.device)
        self.train_metrics.reset()

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if self.trainer.is_last_batch or self.trainer.should_stop:
            self._log_epoch()

    def on_train_epoch_end(self) -> None:
        if self._sums[1]:  # a validation within the epoch has stopped the training
            self._log_epoch()

    def _log_epoch(self) -> None:
        """Write down the epoch's mean loss and metrics, at once: Lightning would, after the epoch's checkpoint."""
        losses, examples = self._of_all(self._sums)
        means = {"train/loss": losses / examples, **self.train_metrics.compute()}
        self.log_dict(means, on_step=False, on_epoch=True, logger=False, sync_dist=True)
        self._write(means, self.global_step - 1)
        self._sums.zero_()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the epoch's means in progress, summed over all processes."""
        states = {
            name: {part: self._of_all(value) for part, value in metric.metric_state.items()}
            for name, metric in self.train_metrics.items(keep_base=True, copy_state=False)
        }
        checkpoint["epoch_so_far"] = {"sums": self._of_all(self._sums), "metrics": states}

    def _of_all(self, value: Any) -> Tensor:
        """Return the sum over all processes."""
        return cast(Tensor, self.trainer.strategy.reduce(value.clone(), reduce_op="sum"))  # it works in place

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        so_far = checkpoint.get("epoch_so_far")
        if so_far is None or self.trainer.state.fn != "fit" or not self.trainer.is_global_zero:  # one has it for all
            return
        self._sums = so_far["sums"]
        for name, metric in self.train_metrics.items(keep_base=True, copy_state=False):
            for part, value in so_far["metrics"][name].items():
                setattr(metric, part, value)

    def log_loss(self, stage: Stage, loss: Tensor, examples: int) -> None:
        """Log the mean loss of a validation or test."""
        self.log(f"{stage}/loss", loss.detach(), on_step=False, on_epoch=True, sync_dist=True, batch_size=examples)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        return self._step(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        return self._step(batch, "test")

    def decayed(self) -> list[nn.Parameter]:
        """Return the trained matrices and kernels: all that weight decay and L1 act on."""
        return [p for p in self.parameters() if p.requires_grad and is_decayed(p)]

    def configure_optimizers(self) -> OptimizerConfig | OptimizerLRSchedulerConfig:
        optimizer = build_optimizer(cast(Model, self.model).layer_groups(), self.optim)
        if self.optim.schedule == "constant" and not self.optim.warmup and not self.optim.unfreeze:
            return {"optimizer": optimizer}
        total = self.trainer.estimated_stepping_batches  # inf where neither epochs nor steps end the training
        steps = int(total) if math.isfinite(total) else 0
        of_epoch = 0
        if self.optim.unfreeze:
            self.trainer.fit_loop.setup_data()  # else the number of batches is not known yet
            of_epoch = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)

        def course(since: int) -> Callable[[int], float]:
            return lambda step: rate_factor(step, steps, self.optim) if step >= since else 0.0

        courses = [course(group["depth"] * of_epoch) for group in optimizer.param_groups]
        schedule = (OneCycle if self.optim.schedule == "one_cycle" else LambdaLR)(optimizer, courses)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
