"""Which devices, precision, strategy and cluster environment a training uses."""

from __future__ import annotations

from typing import Any

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator, XLAAccelerator
from lightning.pytorch.strategies import (
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    Strategy,
    StrategyRegistry,
)
from lightning.pytorch.strategies.xla import XLAStrategy

from src.configs.errors import InputError
from src.configs.training import MatmulPrecision
from src.experiment import Experiment

REFUSED: dict[type[Strategy], str] = {
    FSDPStrategy: "it cuts every weight into one-dimensional pieces, so that weight decay would find no matrix",
    DeepSpeedStrategy: "its checkpoints are folders, which a run cannot go on with",
    ModelParallelStrategy: "its checkpoints are folders, which a run cannot go on with",
    XLAStrategy: "a training on several cores of a TPU has never been tried; --devices 1 takes one",
}
"""Strategies that cannot be made right yet, and why."""


def accelerators() -> dict[str, bool]:
    """Return which accelerators this machine has."""
    kinds = {"gpu": CUDAAccelerator, "mps": MPSAccelerator, "tpu": XLAAccelerator}
    return {"cpu": True} | {name: bool(kind.is_available()) for name, kind in kinds.items()}


def on_tpu(experiment: Experiment) -> bool:
    return experiment.accelerator == "tpu" or (experiment.accelerator == "auto" and accelerators()["tpu"])


def choose_precision(experiment: Experiment) -> str:
    """Return the experiment's precision; for 'auto' bf16-mixed where the device multiplies bfloat16 in hardware.

    All processes of a machine choose alike: of GPUs, all that are asked for have to do so. `agreed_precision` compares
    machines.
    """
    if experiment.precision != "auto":
        return experiment.precision
    there = accelerators()
    if on_tpu(experiment):
        return "bf16-true"
    if experiment.accelerator != "cpu" and there["gpu"]:
        return "bf16-mixed" if all(map(multiplies_bfloat16, gpus(experiment.devices))) else "32-true"
    if experiment.accelerator == "mps" or (experiment.accelerator == "auto" and there["mps"]):
        return "32-true"
    cpu = torch.cpu.get_capabilities()
    return "bf16-mixed" if cpu.get("amx_bf16") or cpu.get("avx512_bf16") else "32-true"


def gpus(devices: str) -> list[int]:
    """Return the numbers of the GPUs that `--devices` asks for."""
    return CUDAAccelerator.parse_devices("-1" if devices == "auto" else devices) or []


def multiplies_bfloat16(gpu: int) -> bool:
    """Return whether a GPU does so in hardware: `torch.cuda.is_bf16_supported` of any, not only of the present one."""
    return bool(torch.version.hip) or torch.cuda.get_device_capability(gpu)[0] >= 8


def matmul_precision(experiment: Experiment, device: torch.device) -> MatmulPrecision:
    """Return how exactly float32 is multiplied: as asked, else 'high' (TF32) on a GPU."""
    return experiment.matmul_precision or ("high" if device.type == "cuda" else "highest")


def refuse_strategy(strategy: Strategy | str) -> None:
    """Raise an InputError for one of `REFUSED`, by its name or as an object."""
    name = strategy if isinstance(strategy, str) else type(strategy).__name__
    kind: Any = StrategyRegistry[name]["strategy"] if name in StrategyRegistry else type(strategy)
    for refused, why in REFUSED.items():
        if isinstance(kind, type) and issubclass(kind, refused):
            raise InputError(f"--strategy {name}: not offered, since {why}. ddp has several GPUs share the work.")


def slurm(plugins: list[Any], strategy: Strategy | str) -> list[ClusterEnvironment]:
    """Return Slurm's environment where it has launched this process and the user gives none.

    Lightning's own would requeue the job at SIGUSR1, from a checkpoint in the working directory that every later run
    there takes for its own. Leyden's runs stop gracefully instead, and go on by --resume.
    """
    given = [plugin for plugin in plugins if isinstance(plugin, ClusterEnvironment)]
    if given or getattr(strategy, "cluster_environment", None) or TorchElasticEnvironment.detect():
        return []
    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []
