"""From an experiment's fields to Lightning's Trainer: device, arithmetic, callbacks, and what is kept quiet."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import Callback, EarlyStopping, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.precision import HalfPrecision

from src.callbacks import (
    Averaging,
    Checkpoints,
    EpochLines,
    FiniteLoss,
    Forecast,
    GracefulStop,
    KnownMonitor,
    OnlyWriter,
    Pruning,
    StepSeeds,
    TerminalBar,
    TimeShares,
    TrainingImages,
    TrainingTexts,
    Validations,
    WholeCheckpointIO,
    terminal_bar,
)
from src.callbacks.stopwatch import Stopwatch
from src.configs.errors import InputError
from src.experiment import Experiment
from src.runs.records import Record
from src.training.devices import accelerators, choose_precision, matmul_precision, on_tpu, refuse_strategy, slurm
from src.training.half import HalfNetwork
from src.training.options import RunOptions

QUIET = (
    ".*does not have many workers.*",  # the data is in memory, or the CPU has no core to spare
    ".*number of training batches.*is smaller than the logging interval.*",  # epoch means are logged all the same
    ".*Checkpoint directory .* exists and is not empty.*",  # a resumed run writes where it wrote before
    ".*`SpearmanCorrcoef` will save all targets.*",  # two numbers an example of a validation: they fit
    ".*No (positive|negative) samples (in targets|found in target).*",  # --limit-val-batches that leave out a class
    ".*LeafSpec.* is deprecated.*",  # Lightning 2.6 calling torch 2.15
    ".*You're resuming from a checkpoint that ended before the epoch ended.*",  # said in the runner's own words
    ".*Glyph .* missing from font.*",  # of a script that matplotlib's has not: boxes, in images for TensorBoard
    ".*could be decompression bomb.*",  # Pillow, at half of what it refuses: datamodules/images/decoding.py
    ".*The `srun` command is available on your system but is not used.*",  # as on every login node
    ".*module.s. in eval mode at the start of training.*",  # the frozen part and its norms: models/resnet.py
)
"""Warnings of libraries that tell a user of Leyden nothing."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3), glibc's malloc.h."""
MALLOC_VARIABLES = {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"}
"""What sets them from outside."""


def quieten() -> None:
    """Set what a process that trains or predicts needs and importing must not set.

    Keeps Lightning's chatter and the warnings of `QUIET` from the user; errors and other warnings still show. Where
    there is no GPU, lets torch remember so. Has tokenizers keep their threads when workers are forked.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # said outright, it is kept without a warning
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if not torch.cuda.is_available():  # Lightning sets this; torch's optimisers then look for a driver in each step
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
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


def build_callbacks(experiment: Experiment, record: Record, options: RunOptions = RunOptions()) -> list[Callback]:
    checkpoints = record.folder / "checkpoints"
    callbacks: list[Callback] = [
        OnlyWriter(record),
        TimeShares(record),  # before the others: their work at a validation's start is of the validation
        StepSeeds(experiment.seed),
        FiniteLoss(checkpoints),
        KnownMonitor(experiment.monitor),
        EpochLines(experiment.monitor),
        TrainingImages(),
        TrainingTexts(),
        Forecast(experiment.validations),
    ]
    if terminal_bar.wanted():
        callbacks.append(TerminalBar())
    if experiment.validations > 1:
        callbacks.append(Validations(experiment.validations))
    if experiment.patience is not None:
        finite = experiment.monitor.endswith("loss")  # a score may be NaN for a while, and is then no better
        callbacks.append(
            EarlyStopping(experiment.monitor, patience=experiment.patience, mode=experiment.mode, check_finite=finite)
        )
    if options.after_validation is not None:
        callbacks.append(Pruning(experiment.monitor, options.after_validation))
    if experiment.averaging != "none":
        callbacks.append(Averaging(experiment.averaging))
    callbacks += experiment.callbacks()
    return [
        *callbacks,
        GracefulStop(checkpoints / "last.ckpt"),  # after all that keeps a state
        Checkpoints(checkpoints, monitor=experiment.monitor, mode=experiment.mode, every=options.checkpoint_every),
    ]


def build_trainer(
    experiment: Experiment,
    callbacks: list[Callback],
    *,
    logger: list[Logger] | Literal[False],
    precision: str | None = None,
    distributed_sampler: bool = False,
    folder: Path | None = None,
) -> Trainer:
    """Return Lightning's Trainer with the experiment's fields and its `trainer_kwargs`, whose loggers and callbacks are
    added in training alone. On a CPU the process keeps its memory from then on.

    Args:
        experiment: what is run.
        callbacks: of `build_callbacks`; none outside training.
        logger: the run's loggers; False outside training.
        precision: what was found out for 'auto'; None: what the hardware says.
        distributed_sampler: whether Lightning shards the data over processes. Leyden's data modules do so themselves,
            and repeat no example in validation.
        folder: the run directory, where Lightning looks for checkpoints and leaves what it writes of its own accord.

    Raises:
        InputError: the accelerator, device, strategy or precision is not to be had here.
    """
    given = experiment.trainer_kwargs()
    added = {name: as_list(given.pop(name, None)) for name in ("callbacks", "logger", "plugins")}
    callbacks = with_added(callbacks, added["callbacks"]) if callbacks else []
    strategy = given.get("strategy", experiment.strategy)
    refuse_strategy(strategy)
    arguments: dict[str, Any] = {
        "accelerator": experiment.accelerator,
        "devices": int(experiment.devices) if experiment.devices.isdigit() else experiment.devices,
        "num_nodes": experiment.num_nodes,
        "strategy": experiment.strategy,
        "deterministic": experiment.deterministic,
        "benchmark": experiment.benchmark,
        "max_epochs": -1 if experiment.max_epochs is None else experiment.max_epochs,  # None before the data are known
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
        "enable_progress_bar": any(isinstance(callback, ProgressBar) for callback in callbacks),
        "enable_model_summary": False,
        "use_distributed_sampler": distributed_sampler,
        "callbacks": callbacks,
        "logger": [*logger, *added["logger"]] if logger else False,
        "profiler": Stopwatch(),
        "plugins": added["plugins"],
        "default_root_dir": folder,
    }
    if not on_tpu(experiment) and not any(isinstance(plugin, CheckpointIO) for plugin in added["plugins"]):
        arguments["plugins"].append(WholeCheckpointIO())  # XLA brings its own
    try:
        arguments["precision"] = precision or choose_precision(experiment)
        arguments["plugins"] += slurm(added["plugins"], strategy)
        trainer = Trainer(**arguments | given)
    except (MisconfigurationException, ValueError, TypeError, RuntimeError, ImportError) as error:
        has = ", ".join(name for name, there in accelerators().items() if there)
        flags = ("accelerator", "devices", "strategy", "precision", "max_time")
        values = ((name, getattr(experiment, name)) for name in flags)
        requested = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in values if value is not None)
        raise InputError(f"{requested}: {error} This machine has: {has}.") from error
    refuse_strategy(trainer.strategy)  # as 'auto' has chosen it
    torch.set_float32_matmul_precision(matmul_precision(experiment, trainer.strategy.root_device))
    if type(trainer.precision_plugin) is HalfPrecision:  # not FSDP's and the like, which are other classes
        trainer.strategy.precision_plugin = HalfNetwork(trainer.precision_plugin.precision)
    if isinstance(trainer.accelerator, CPUAccelerator):
        keep_memory()
    return trainer


def as_list(given: Any) -> list[Any]:
    """Return what Lightning takes as one or several, or as a switch for its own, as a list; a switch adds nothing."""
    if given is None or isinstance(given, bool):
        return []
    return list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]


def with_added(callbacks: list[Callback], added: list[Callback]) -> list[Callback]:
    """Return both, the added before those that save, which have to see every state; one progress bar at the most."""
    if any(isinstance(callback, ProgressBar) for callback in added):
        callbacks = [callback for callback in callbacks if not isinstance(callback, ProgressBar)]
    at = next((i for i, callback in enumerate(callbacks) if isinstance(callback, GracefulStop)), len(callbacks))
    return [*callbacks[:at], *added, *callbacks[at:]]
