"""The metrics of a training epoch so far: in a checkpoint for all processes together, and handed out to them again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.utilities.data import dim_zero_cat, dim_zero_max, dim_zero_mean, dim_zero_min, dim_zero_sum

from src.configs.errors import InputError

JOINED = (dim_zero_sum, dim_zero_max, dim_zero_min, dim_zero_cat)
"""Reductions that give the same result if one process holds the joined state and the others hold nothing."""
State = dict[str, Tensor | list[Tensor]]


def require_joinable(metrics: MetricCollection, processes: int) -> None:
    """Raise an InputError where the states of several processes cannot be joined and handed out again."""
    for name, metric in _parts(metrics):
        for part, reduction in metric._reductions.items():
            if processes > 1 and reduction not in (*JOINED, dim_zero_mean):
                raise InputError(
                    f"the training metric {name}: {type(metric).__name__} joins its state {part!r} over processes in a "
                    "way of its own, which no checkpoint within an epoch can keep. Give it dist_reduce_fx='sum', "
                    "'mean', 'max', 'min' or 'cat', leave it out of train_metrics(), or train on one device."
                )


def joined(metrics: MetricCollection) -> dict[str, State]:
    """Return the states of all processes together. All processes have to ask."""
    found: dict[str, State] = {}
    for name, metric in _parts(metrics):
        with metric.sync_context():
            found[name] = {part: _copy(value, metric._defaults[part]) for part, value in metric.metric_state.items()}
    return found


def hand_out(states: Mapping[str, Mapping[str, Any]], metrics: MetricCollection, *, first: bool) -> None:
    """Give each process its part of what `joined` returned: the `first` all of it, the others what is a mean."""
    for name, metric in _parts(metrics):
        for part, value in states[name].items():
            if first or metric._reductions[part] is dim_zero_mean:
                copies = [each.to(metric.device, copy=True) for each in (value if isinstance(value, list) else [value])]
                setattr(metric, part, copies if isinstance(value, list) else copies[0])


def _parts(metrics: MetricCollection) -> Iterator[tuple[str, Metric]]:
    """Yield name and metric of all that have states, those within others too."""
    metrics.items(keep_base=True, copy_state=False)  # else those that share states have old ones
    for name, metric in metrics.named_modules():
        if isinstance(metric, Metric) and metric.metric_state:
            yield name, metric


def _copy(state: Any, default: Any) -> Tensor | list[Tensor]:
    """Return a copy of a state. What was a list is one again: joined by 'cat' it is a tensor."""
    if isinstance(default, list):
        return [torch.clone(part) for part in (state if isinstance(state, list) else [state])]
    return state.clone()
