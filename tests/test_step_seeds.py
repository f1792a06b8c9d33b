"""What the steps of a training are seeded by, on devices that are not here."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from src.callbacks import StepSeeds

TRAINER: Any = SimpleNamespace(current_epoch=2, global_rank=0)


def test_a_tpu_is_seeded_in_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch_xla keeps its generator's state itself: torch.get_device_module("xla") raises."""
    seeds: list[tuple[int, str]] = []
    xla_model = SimpleNamespace(set_rng_state=lambda seed, device: seeds.append((seed, device)))
    monkeypatch.setitem(sys.modules, "torch_xla", SimpleNamespace(core=SimpleNamespace(xla_model=xla_model)))
    monkeypatch.setitem(sys.modules, "torch_xla.core", SimpleNamespace(xla_model=xla_model))
    monkeypatch.setitem(sys.modules, "torch_xla.core.xla_model", xla_model)
    module: Any = SimpleNamespace(device=torch.device("xla", 0))
    for batch in (0, 1, 0):
        StepSeeds(5).on_train_batch_start(TRAINER, module, {}, batch)
    assert [device for _, device in seeds] == ["xla:0"] * 3
    assert seeds[0] == seeds[2] != seeds[1]


def test_a_gpu_is_seeded_by_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed", seeds.append)
    module: Any = SimpleNamespace(device=torch.device("cuda", 1))
    StepSeeds(5).on_train_batch_start(TRAINER, module, {}, 0)
    assert seeds == [torch.initial_seed()]
