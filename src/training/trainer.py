"""From an experiment's fields to Lightning's Trainer: device, arithmetic, callbacks, and what is kept quiet."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator, MPSAccelerator, XLAAccelerator
from lightning.pytorch.callbacks import Callback, EarlyStopping, TQDMProgressBar

from src.callbacks import (
    Averaging,
    Checkpoints,
    EpochLines,
    Every,
    FiniteLoss,
    Forecast,
    GracefulStop,
    KnownMonitor,
    StepSeeds,
    TimeShares,
    TrainingPictures,
    TrainingTexts,
    Validations,
    WholeCheckpointIO,
)
from src.callbacks.stopwatch import Stopwatch
from src.configs.errors import InputError
from src.experiment import Experiment

QUIET = (
    ".*does not have many workers.*",  # the data is in memory, or the CPU has no core to spare
    ".*number of training batches.*is smaller than the logging interval.*",  # epoch means are logged all the same
    ".*Checkpoint directory .* exists and is not empty.*",  # a resumed run writes where it wrote before
    ".*`SpearmanCorrcoef` will save all targets.*",  # two numbers an example of a validation: they fit
    ".*No (positive|negative) samples in targets.*",  # --limit-val-batches that leave out a class
    ".*LeafSpec.* is deprecated.*",  # Lightning 2.6 calling torch 2.15
    ".*You're resuming from a checkpoint that ended before the epoch ended.*",  # said in the runner's own words
    ".*Glyph .* missing from font.*",  # of a script that matplotlib's has not: boxes, in pictures for TensorBoard
    ".*module.s. in eval mode at the start of training.*",  # the frozen part and its norms: models/resnet.py
)
"""Lightning's and torchmetrics' warnings that tell a user of Leyden nothing."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3), glibc's malloc.h."""
MALLOC_VARIABLES = {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"}
"""What sets them from outside."""


def quieten() -> None:
    """Keep Lightning's chatter and the warnings of `QUIET` from the user; errors and other warnings still show. And
    where there is no GPU, say so to torch once.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    if not torch.cuda.is_available():  # else torch's optimisers look for a driver in each step, which takes 0.5 ms
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    for message in QUIET:
        warnings.filterwarnings("ignore", message)


def keep_memory() -> None:
    """Have glibc's malloc keep what is freed for the next step, but for blocks of more than 64 MiB.

    By default it returns tensors of more than 32 MiB, and what is free at the heap's end, to the system, which clears
    each of their pages when the next step writes to it: up to a fifth of a step on a CPU. What is kept adds 2-6 % to a
    run's memory at its peak (`benchmarks/notes.md`). Where one of `MALLOC_VARIABLES` is set, that holds. Nothing
    changes with another allocator or system, or with a glibc that refuses the threshold (before 2.35).
    """
    if sys.platform != "linux" or MALLOC_VARIABLES & os.environ.keys():
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt and mallopt(M_MMAP_THRESHOLD, 2**26):  # without it, a trim threshold would fix it at 128 KiB
        mallopt(M_TRIM_THRESHOLD, -1)


def build_callbacks(experiment: Experiment, folder: Path, checkpoint_every: Every | None = None) -> list[Callback]:
    checkpoints = folder / "checkpoints"
    callbacks: list[Callback] = [
        TimeShares(folder),  # first: the other callbacks' work at a validation's start is of the validation
        StepSeeds(experiment.seed),
        FiniteLoss(checkpoints),
        KnownMonitor(experiment.monitor),
        EpochLines(experiment.monitor),
        TrainingPictures(),
        TrainingTexts(),
        Forecast(experiment.validations),
    ]
    if sys.stderr.isatty():
        callbacks.append(TQDMProgressBar(leave=False))
    if experiment.validations > 1:
        callbacks.append(Validations(experiment.validations))
    if experiment.patience is not None:
        callbacks.append(EarlyStopping(experiment.monitor, patience=experiment.patience, mode=experiment.mode))
    if experiment.averaging != "none":
        callbacks.append(Averaging(experiment.averaging))
    callbacks += experiment.callbacks()
    return [
        *callbacks,
        GracefulStop(checkpoints / "last.ckpt"),  # after all that keeps a state
        Checkpoints(checkpoints, monitor=experiment.monitor, mode=experiment.mode, every=checkpoint_every),
    ]


def build_trainer(
    experiment: Experiment, callbacks: list[Callback], *, logger: Any, precision: str | None = None
) -> Trainer:
    """Return Lightning's Trainer with the experiment's fields; `trainer_kwargs` wins. On a CPU the process keeps its
    memory from then on.

    Args:
        precision: what was found out for 'auto'; None: what the hardware says.

    Raises:
        InputError: the accelerator, device, strategy or precision is not to be had here.
    """
    arguments: dict[str, Any] = {
        "accelerator": experiment.accelerator,
        "devices": int(experiment.devices) if experiment.devices.isdigit() else experiment.devices,
        "num_nodes": experiment.num_nodes,
        "strategy": experiment.strategy,
        "precision": precision or choose_precision(experiment),
        "max_epochs": experiment.max_epochs,
        "max_time": experiment.max_time,
        "limit_train_batches": experiment.limit_train_batches,
        "limit_val_batches": experiment.limit_val_batches,
        "limit_test_batches": experiment.limit_test_batches,
        "gradient_clip_val": experiment.grad_clip,
        "accumulate_grad_batches": experiment.accumulate,
        # a class's own monitor has been tried; another is, on a batch, before hours of training
        "num_sanity_val_steps": int(experiment.monitor != type(experiment).monitor),
        "log_every_n_steps": 10,
        "enable_checkpointing": any(isinstance(callback, Checkpoints) for callback in callbacks),
        "enable_progress_bar": any(isinstance(callback, TQDMProgressBar) for callback in callbacks),
        "enable_model_summary": False,
        "use_distributed_sampler": False,  # our batches are sharded, and repeat no example in validation
        "callbacks": [*callbacks],  # Lightning adds its own to the list that it gets
        "logger": logger,
        "profiler": Stopwatch(),
        "plugins": [] if on_tpu(experiment) else [WholeCheckpointIO()],  # XLA brings its own
    }
    try:
        trainer = Trainer(**arguments | experiment.trainer_kwargs())
    except (MisconfigurationException, ValueError, TypeError, RuntimeError, ImportError) as error:
        has = ", ".join(name for name, there in accelerators().items() if there)
        flags = ("accelerator", "devices", "strategy", "precision", "max_time")
        given = ((name, getattr(experiment, name)) for name in flags)
        asked = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in given if value is not None)
        raise InputError(f"{asked}: {error} This machine has: {has}.") from error
    if isinstance(trainer.accelerator, CPUAccelerator):
        keep_memory()
    return trainer


def accelerators() -> dict[str, bool]:
    """Return which accelerators this machine has."""
    kinds = {"gpu": CUDAAccelerator, "mps": MPSAccelerator, "tpu": XLAAccelerator}
    return {"cpu": True} | {name: bool(kind.is_available()) for name, kind in kinds.items()}


def on_tpu(experiment: Experiment) -> bool:
    return experiment.accelerator == "tpu" or (experiment.accelerator == "auto" and accelerators()["tpu"])


def choose_precision(experiment: Experiment) -> str:
    """Return the experiment's precision; for 'auto' bf16-mixed where the device multiplies bfloat16 in hardware."""
    if experiment.precision != "auto":
        return experiment.precision
    there = accelerators()
    if on_tpu(experiment):
        return "bf16-true"
    if experiment.accelerator != "cpu" and there["gpu"]:
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    if experiment.accelerator == "mps" or (experiment.accelerator == "auto" and there["mps"]):
        return "32-true"
    cpu = torch.cpu.get_capabilities()
    return "bf16-mixed" if cpu.get("amx_bf16") or cpu.get("avx512_bf16") else "32-true"
