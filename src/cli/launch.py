"""What launch.py does: the same run.py, started by an engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import tyro

from src.cli.parser import listing, parse, split
from src.configs.errors import InputError
from src.launch import local, slurm
from src.runs.records import runs_dir
from src.terminal import streams

Own = TypeVar("Own")
USAGE = """usage: launch.py local EXPERIMENT.py[:Name] ... --processes 2 [flags of run.py]
       launch.py slurm EXPERIMENT.py[:Name] ... --nodes 2 --gpus-per-node 4 --time 04:00:00 [flags of run.py]
       launch.py local --help, launch.py slurm --help"""


@dataclass(frozen=True, kw_only=True)
class LocalFlags:
    """Run in several processes of this machine, by torchrun. All other flags are run.py's."""

    processes: int = 2
    """Processes, each with a GPU where there are GPUs, else with its share of the cores."""
    max_restarts: int = 0
    """How often all are started again where one has ended badly. The run goes on from its last checkpoint."""


@dataclass(frozen=True, kw_only=True)
class SlurmFlags:
    """Write a batch script for Slurm and submit it. When its time is over the run saves, the job is requeued, and the
    run goes on. All other flags are run.py's."""

    nodes: int = 1
    """Machines."""
    gpus_per_node: int = 0
    """GPUs of each, with a process each."""
    tasks_per_node: int | None = None
    """Processes of each node, where there are no GPUs."""
    cpus_per_task: int | None = None
    """Cores of each process; those that load data need some."""
    mem: str | None = None
    """Memory of each node, such as 64G."""
    time: str | None = None
    """The job's time, such as 04:00:00: the partition's unless given."""
    partition: str | None = None
    """Partition, such as gpu."""
    account: str | None = None
    """Whom the time is charged to."""
    seeds: tuple[int, ...] = ()
    """A job array: a run a seed."""
    sbatch: tuple[str, ...] = ()
    """Further options of sbatch: --sbatch=--qos=long"""
    dry_run: bool = False
    """Print the batch script, and submit nothing."""


def launch(argv: Sequence[str]) -> int:
    """Launch what the arguments of launch.py say; return the exit code of the run, or 0 when it is submitted.

    Raises:
        InputError: anything that run.py would refuse, or the engine does.
        SystemExit: --help (0), or an unknown flag (2).
    """
    engines: Mapping[str, Callable[[Sequence[str]], int]] = {"local": _local, "slurm": _slurm}
    if not argv or argv[0] not in engines:
        if argv and argv[0] not in ("-h", "--help"):
            raise InputError(f"{argv[0]}: no engine; there are {', '.join(engines)}.\n{USAGE}")
        print(f"{USAGE}\n\n{listing()}")
        return 0 if argv else 2
    return engines[argv[0]](argv[1:])


def _local(argv: Sequence[str]) -> int:
    own, words = _parse(LocalFlags(), argv, "local")
    command = local.command(words, own.processes, own.max_restarts)
    _check(command[command.index(words[0]) :])
    return local.launch(command, own.processes)


def _slurm(argv: Sequence[str]) -> int:
    own, words = _parse(SlurmFlags(), argv, "slurm")
    asked: dict[str, Any] = {name: value for name, value in vars(own).items() if name not in ("sbatch", "dry_run")}
    job = slurm.Job(**asked, options=own.sbatch)
    _check([*words, f"--num-nodes={job.nodes}", f"--devices={job.tasks}"])
    folder = (runs_dir() / "slurm").absolute()
    text = slurm.script(job, words, folder / "%x-%j.out")
    if own.dry_run:
        print(text, end="")
        return 0
    path = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}.sh"
    print(slurm.submit(text, path))
    print(f"script     {path}\noutput     {folder}/{slurm.name_of(words)}-<job>.out\nruns       {runs_dir()}")
    return 0


def _parse(default: Own, argv: Sequence[str], engine: str) -> tuple[Own, list[str]]:
    """Return the engine's own flags, and the words of run.py."""
    targets, flags = split(argv)
    if not targets and not {"-h", "--help"} & {*flags}:
        raise InputError(f"launch.py {engine}: name an experiment.\n{listing()}")
    kind: Any = tyro.conf.FlagCreatePairsOff[type(default)]
    found, rest = tyro.cli(kind, args=flags, default=default, prog=f"launch.py {engine}", return_unknown_args=True)
    return found, [*targets, *rest]


def _check(words: Sequence[str]) -> None:
    """Have errors of the command line now, and not when the run starts, which may be in a queue."""
    if "--resume" in words:
        return
    for experiment in parse([word for word in words if word not in streams.NO_COLOR]).experiments:
        experiment.check()
