"""The task: a network, an objective and an input, trained by one step for training, validation and test."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, cast, runtime_checkable

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerConfig, OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MetricCollection

from src.configs.errors import InputError
from src.configs.optim import Optim
from src.configs.spec import DataSpec
from src.configs.training import Imbalance
from src.models.heads import require_finite
from src.tasks.epoch_so_far import hand_out, joined, require_joinable
from src.tasks.inputs import Input
from src.tasks.objectives import Objective
from src.tasks.optim import OneCycle, build_optimizer, decayed, rate_factor, require_optimizer
from src.tasks.unfreezing import ByDepth, by_depth, unfreeze

Batch = dict[str, Any]
Stage = Literal["train", "val", "test"]
CachedFeatures = Literal["no", "start", "probe"]
DEFAULT_OPTIM = Optim()


@runtime_checkable
class HasLayerGroups(Protocol):
    """A network that tells its parameters by depth. Any other is one group."""

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return the parameters by depth, from the input to the head."""
        ...


@runtime_checkable
class HasWeightsSource(Protocol):
    """A network that tells where its first weights came from, for the record."""

    weights_source: str


class Task(LightningModule):
    """Joins a network, what is predicted and what goes in, and trains them as `optim` says.

    The parts know nothing of one another. `ImageClassification` and its like are combinations of them.

    Args:
        network: maps the input's tensors to `objective.num_outputs` numbers an example. It needs `features` and `head`
            where features are cached.
        objective: loss, metrics and predictions.
        input: what the network takes of a batch.
        optim: optimiser and schedule.
        cached_features: what the features of a frozen backbone, computed once, are for: nothing, a solved head to start
            from, or that and all of the training (a linear probe).

    Raises:
        InputError: there is no such optimiser, or the parts cannot be combined.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        input: Input,
        optim: Optim = DEFAULT_OPTIM,
        *,
        cached_features: CachedFeatures = "no",
    ) -> None:
        super().__init__()
        require_optimizer(optim.name)
        input.adapt(network)
        input.require_mixable(mixes_targets=objective.mixes_targets)
        if cached_features == "probe":
            input.require_raw_batches()
            network.requires_grad_(False)
            cast(Any, network).head.requires_grad_(True)
        self.model, self.objective, self.input, self.optim = network, objective, input, optim
        self.cached_features: CachedFeatures = cached_features
        self.train_metrics = objective.train_metrics().clone(prefix="train/")
        """Of a training epoch."""
        metrics = objective.metrics()
        self.metrics = nn.ModuleDict({stage: metrics.clone(prefix=f"{stage}/") for stage in ("val", "test")})
        self._sums = torch.zeros(2)  # losses and examples of the epoch so far
        self._by_depth: ByDepth = {}
        self._last_loss = torch.zeros(())

    @property
    def spec(self) -> DataSpec:
        """What the task knows of the data."""
        return self.objective.spec

    @property
    def head(self) -> Any:
        """The network's last layer."""
        return self.model.head

    @property
    def weights_source(self) -> str:
        """Where the network's first weights came from."""
        return self.model.weights_source if isinstance(self.model, HasWeightsSource) else "as given"

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return the network's parameters by depth, from the input to the head."""
        return self.model.layer_groups() if isinstance(self.model, HasLayerGroups) else [list(self.model.parameters())]

    def forward(self, batch: Batch) -> Tensor:
        """Return the outputs [batch, num_outputs] for a batch, or for its cached 'features' [batch, num_features]."""
        if "features" in batch:
            return self.head(batch["features"])
        views = [batch] if self.training else self.input.views(batch)
        outputs = [self.model(*self.input.tensors(view, self._network_dtype())) for view in views]
        joined = outputs[0] if len(outputs) == 1 else self.objective.mean_outputs(torch.stack(outputs))
        return joined[:, None] if joined.ndim == 1 else joined

    def _network_dtype(self) -> torch.dtype:
        return next((p.dtype for p in self.model.parameters()), torch.float32)  # `dtype` is the whole task's

    def features(self, batch: Batch) -> Tensor:
        """Return what the frozen part of the network makes of a batch, [batch, num_features]."""
        return cast(Any, self.model).features(*self.input.tensors(batch, self._network_dtype()))

    def start_from_features(self, cached: Mapping[str, Mapping[str, Tensor]]) -> str:
        """Solve the head on the cached features of 'train' before training; return a line for the summary.

        Raises:
            InputError: a feature of any split is NaN or infinite.
        """
        for part in cached.values():
            require_finite(part["features"])
        return self.objective.solve_head(self.head, cached["train"])

    def set_imbalance_strategy(self, strategy: Imbalance) -> None:
        """Choose what the training does about rare classes; the data module draws the batches of 'sampler'.

        Raises:
            InputError: it cannot be done here.
        """
        if strategy == "focal" and self.cached_features == "start":
            raise InputError(
                "--imbalance focal: this experiment starts from a head solved for cross-entropy. Choose weights, "
                "sampler or logit_adjust, or an experiment that does not."
            )
        self.input.require_mixable(mixes_targets=self.objective.mixes_targets, imbalance=strategy)
        self.objective.set_imbalance_strategy(strategy)

    def try_out(self, epochs: int) -> None:
        """Raise an InputError where the network cannot take what a training of so many epochs would give it."""
        self.input.try_out(self.model, epochs=epochs, dtype=self._network_dtype())

    @torch.no_grad()
    def require_outputs(self, batch: Batch) -> None:
        """Raise an InputError where the network's outputs for a batch do not fit the objective."""
        training = {module: module.training for module in self.modules()}
        outputs = self.eval()(batch)
        for module, mode in training.items():
            module.training = mode
        expected = [len(batch["target"]), self.objective.num_outputs]
        if list(outputs.shape) != expected:
            raise InputError(
                f"{type(self.model).__name__} returns {list(outputs.shape)} for a batch of {expected[0]} examples, but "
                f"{type(self.objective).__name__} needs {expected}."
            )

    def augmented(self, batch: Batch) -> Batch:
        """Return a training batch as it is trained on."""
        if "features" in batch:
            return batch
        return {**self.input.augmented(batch, epoch=self.current_epoch, epochs=self.trainer.max_epochs or 1)}

    def _step(self, batch: Batch, stage: Stage) -> dict[str, Tensor]:
        """Return 'loss', and for validation and test 'index', 'target' and the predictions; count in the metrics."""
        batch = self.augmented(batch) if stage == "train" else batch
        target = batch["target"]
        outputs = self(batch).float()
        if stage == "train":
            if len(self.train_metrics):
                self.objective.update(self.train_metrics, self.objective.predictions(outputs.detach()), target)
            return {"loss": self.objective.training_loss(outputs, target)}
        loss = self.objective.loss(outputs, target)
        predicted = self.objective.predictions(outputs.detach())
        metrics = cast(MetricCollection, self.metrics[stage])
        self.objective.update(metrics, predicted, target)
        count: Any = float(self.objective.count(target))  # Lightning averages processes' counts; an int loses the half
        self.log(f"{stage}/loss", loss.detach(), on_step=False, on_epoch=True, sync_dist=True, batch_size=count)
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=count)
        return {"loss": loss, "target": target, "index": batch["index"], **predicted}

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Return 'index', the predictions of these examples, and the batch's 'error' {index: why}."""
        outputs = self(batch).float() if len(batch["index"]) else torch.empty(0, self.objective.num_outputs)
        return {"index": batch["index"], "error": batch["error"], **self.objective.predictions(outputs)}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self._step(batch, "train")["loss"]
        mean, examples = loss.detach(), self.objective.count(batch["target"])
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

    def on_fit_start(self) -> None:
        require_joinable(self.train_metrics, self.trainer.world_size)

    def on_train_start(self) -> None:
        self._sums = self._sums.to(self.device)
        self._unfreeze()

    def on_train_epoch_start(self) -> None:
        self._sums = torch.zeros(2, device=self.device)
        self.train_metrics.reset()
        self._unfreeze()

    def _unfreeze(self) -> None:
        if self.optim.unfreeze:  # torch's DDP waits for every gradient
            alone = self.trainer.world_size == 1
            unfreeze(self.model, self._by_depth, self.current_epoch, spare_gradients=alone)

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
        """Keep the epoch's means in progress, of all processes together."""
        checkpoint["epoch_so_far"] = {"sums": self._of_all(self._sums), "metrics": joined(self.train_metrics)}

    def _of_all(self, value: Any) -> Tensor:
        """Return the sum over all processes."""
        return cast(Tensor, self.trainer.strategy.reduce(value.clone(), reduce_op="sum"))  # it works in place

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        so_far = checkpoint.get("epoch_so_far")
        if so_far is None or self.trainer.state.fn != "fit":
            return
        first = self.trainer.is_global_zero
        if first:  # one has the sums for all
            self._sums = so_far["sums"]
        hand_out(so_far["metrics"], self.train_metrics, first=first)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        return self._step(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        return self._step(batch, "test")

    def decayed(self) -> list[nn.Parameter]:
        """Return the trained matrices and kernels: all that weight decay and L1 act on."""
        return [p for p in decayed(self.model) if p.requires_grad]

    def configure_optimizers(self) -> OptimizerConfig | OptimizerLRSchedulerConfig:
        groups = self.layer_groups()
        optimizer = build_optimizer(groups, self.optim, self.model)
        self._by_depth = by_depth(groups)
        if self.optim.schedule == "constant" and not self.optim.warmup and not self.optim.unfreeze:
            return {"optimizer": optimizer}
        total = self.trainer.estimated_stepping_batches  # inf where neither epochs nor steps end the training
        steps = int(total) if math.isfinite(total) else 0
        of_epoch = 0
        if self.optim.unfreeze:
            self.trainer.fit_loop.setup_data()  # else the number of batches is not known yet
            of_epoch = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)

        def factor(since: int) -> Callable[[int], float]:
            return lambda step: rate_factor(step, steps, self.optim) if step >= since else 0.0

        factors = [factor(group["depth"] * of_epoch) for group in optimizer.param_groups]
        schedule = (OneCycle if self.optim.schedule == "one_cycle" else LambdaLR)(optimizer, factors)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
