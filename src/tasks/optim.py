"""The optimiser and the learning-rate schedule that an `Optim` describes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection
from fnmatch import fnmatchcase
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from typing_extensions import override

from src.configs.errors import InputError, did_you_mean
from src.configs.optim import Optim

BUILT_IN = ("adamw", "adam", "sgd")
"""Optimisers of torch's; any other name is one of timm's."""


@runtime_checkable
class SparesFromDecay(Protocol):
    """A network that names what weight decay must not act on, as timm's do: position embeddings and the like."""

    def no_weight_decay(self) -> Collection[str]:
        """Return names of its parameters; `*` stands for any letters."""
        ...


def decayed(network: nn.Module) -> list[nn.Parameter]:
    """Return what weight decay and L1 act on: matrices and kernels, not norms, biases and what the network names."""
    # By name, not by a mark on the parameters, which is lost with a copy
    spared = ["*.bias", *(network.no_weight_decay() if isinstance(network, SparesFromDecay) else ())]
    return [
        parameter
        for name, parameter in network.named_parameters()
        if parameter.ndim > 1 and not any(fnmatchcase(name, pattern) for pattern in spared)
    ]


def build_optimizer(layer_groups: list[list[nn.Parameter]], optim: Optim, network: nn.Module) -> Optimizer:
    """Return the optimiser over the trained parameters of a network.

    The rate is `optim.lr` for the last group and `optim.layer_decay` times lower for each before it; only what is
    `decayed` gets weight decay. With `optim.unfreeze`, 'depth' of a parameter group counts the layer groups after it.
    """
    # timm's param_groups_layer_decay needs timm's models; AdamW takes 10.7 ms with its 28 groups of ViT-Ti, 9.1 with 2
    alike: dict[tuple[float, float, int], list[nn.Parameter]] = defaultdict(list)  # each costs a kernel's start a step
    shrunk = set(decayed(network))
    for depth, layer in enumerate(reversed(layer_groups)):
        for parameter in layer:
            if parameter.requires_grad:
                decay = optim.weight_decay if parameter in shrunk else 0.0
                rate = optim.lr * optim.layer_decay**depth
                alike[rate, decay, depth if optim.unfreeze else 0].append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": params, "lr": rate, "weight_decay": decay, "depth": depth}
        for (rate, decay, depth), params in alike.items()
    ]
    fused = all(p.device.type in ("cpu", "cuda", "mps") for group in groups for p in group["params"])
    match optim.name:
        case "adamw":
            optimizer = AdamW(groups, fused=fused)
        case "adam":
            optimizer = Adam(groups, fused=fused)
        case "sgd":
            optimizer = SGD(groups, lr=optim.lr, momentum=optim.momentum, fused=fused)
        case _:
            optimizer = timm_optimizer(groups, optim)
    # Else Lightning refuses gradient clipping in mixed precision, since a fused step would unscale after the clipping.
    optimizer._step_supports_amp_scaling = False  # pyright: ignore[reportAttributeAccessIssue]
    return optimizer


def require_optimizer(name: str) -> None:
    """Raise an InputError where neither torch nor timm has such an optimiser."""
    if name in BUILT_IN:
        return
    from timm.optim import list_optimizers  # pyright: ignore[reportPrivateImportUsage]  # takes seconds

    known = [
        *BUILT_IN,
        *map(str, list_optimizers(exclude_filters=["adahessian"])),
    ]
    if name not in known:
        raise InputError(f"--optim.name {name}: neither torch nor timm has it.{did_you_mean(name, known)}")


def timm_optimizer(groups: list[dict[str, Any]], optim: Optim) -> Optimizer:
    """Return timm's optimiser of that name.

    Raises:
        InputError: it wants a GPU or a package that is not there.
    """
    from timm.optim import create_optimizer_v2  # pyright: ignore[reportPrivateImportUsage]

    try:
        return create_optimizer_v2(groups, optim.name, optim.lr, optim.weight_decay, optim.momentum)
    except (AssertionError, ImportError) as error:
        raise InputError(f"--optim.name {optim.name}: not available here: {error}.") from error


class OneCycle(LambdaLR):
    """A schedule of the rate that moves the momentum, or Adam's first beta, the other way.

    Raises:
        InputError: the optimiser has neither.
    """

    def __init__(self, optimizer: Optimizer, factors: list[Callable[[int], float]]) -> None:
        if not {"betas", "momentum"} & optimizer.param_groups[0].keys():
            name = type(optimizer).__name__
            raise InputError(f"--optim.schedule one_cycle: {name} has no momentum to move. Choose adamw or sgd, say.")
        super().__init__(optimizer, factors)

    @override
    def get_lr(self) -> list[float | Tensor]:
        momentum = 0.95 - 0.1 * self.lr_lambdas[0](self.last_epoch)
        for group in self.optimizer.param_groups:
            if "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
            elif "momentum" in group:
                group["momentum"] = momentum
        return super().get_lr()


def rate_factor(step: int, steps: int, optim: Optim) -> float:
    """Return the learning rate at `step` of `steps` as a share of its peak: linear warm-up, then `optim.schedule`."""
    # torch's save 1 us of 3 a step, but cannot hold back a group, and past the end one rises again and one raises
    if not steps:  # a training without an end has no schedule
        return 1.0
    warmup = round(optim.warmup * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    match optim.schedule:
        case "cosine":
            return (1 + math.cos(math.pi * done)) / 2
        case "linear" | "one_cycle":
            return 1 - done
        case "step":
            return optim.step_factor ** int(min(done / optim.step_share, 1e6)) if optim.step_share else 1.0
        case "constant":
            return 1.0
