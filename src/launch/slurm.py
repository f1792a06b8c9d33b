"""A batch script for Slurm that runs an experiment, and is requeued when its time is over until the run is done."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from src.configs.errors import InputError
from src.resources.files import ROOT

TIME = re.compile(r"(\d+-)?\d+(:\d+){0,2}")
"""What sbatch takes: minutes, minutes:seconds, hours:minutes:seconds, days-hours and so on."""
MARGIN = 90
"""Seconds before the end of the time when the run is asked to save and stop."""
STOPPED = (138, 143)
"""Exit codes of a run that SIGUSR1 or SIGTERM has stopped: it has saved, and can go on."""


@dataclass(frozen=True)
class Job:
    """What is asked of Slurm.

    Raises:
        InputError: a number below 1, or a time that Slurm does not read.
    """

    nodes: int = 1
    gpus_per_node: int = 0
    tasks_per_node: int | None = None
    """Processes a node; as many as GPUs unless given, and at least 1."""
    cpus_per_task: int | None = None
    mem: str | None = None
    time: str | None = None
    partition: str | None = None
    account: str | None = None
    seeds: tuple[int, ...] = ()
    """A job array with a task a seed."""
    options: tuple[str, ...] = ()
    """Further options of sbatch, as it takes them."""

    def __post_init__(self) -> None:
        for name, least in (("nodes", 1), ("gpus_per_node", 0), ("tasks_per_node", 1), ("cpus_per_task", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"--{name.replace('_', '-')} {value}: at least {least}.")
        if self.time is not None and not TIME.fullmatch(self.time):
            raise InputError(f"--time {self.time}: as Slurm takes it, such as 04:00:00 or 2-00:00:00.")

    @property
    def tasks(self) -> int:
        """Return the processes of a node, each of which has a GPU where there are GPUs."""
        return self.tasks_per_node or max(1, self.gpus_per_node)


def name_of(words: Sequence[str]) -> str:
    """Return the job's name, which is the experiment's."""
    target = next((word for word in words if not word.startswith("-")), "leyden")
    return Path(target.partition(":")[0]).stem


def script(job: Job, words: Sequence[str], log: Path) -> str:
    """Return the batch script.

    `srun` starts a process a task. All get SIGUSR1 `MARGIN` seconds before the end of the time: the run saves and stops
    with an exit code of `STOPPED`. The job is then requeued, and goes on with the run that it has begun; so it does
    where Slurm itself requeues it, after a node has failed.

    Args:
        job: what is asked of Slurm.
        words: of run.py: experiments and flags.
        log: where the output goes; Slurm writes the job's number for `%j`.
    """
    asked = {
        "job-name": name_of(words),
        "nodes": job.nodes,
        "ntasks-per-node": job.tasks,
        "gpus-per-node": job.gpus_per_node or None,
        "cpus-per-task": job.cpus_per_task,
        "mem": job.mem,
        "time": job.time,
        "partition": job.partition,
        "account": job.account,
        "array": ",".join(map(str, job.seeds)) or None,
        "output": log,
        "open-mode": "append",
        "signal": f"USR1@{MARGIN}",
    }
    lines = [f"#SBATCH --{key}={value}" for key, value in asked.items() if value is not None]
    run = [
        sys.executable,
        str(ROOT / "scripts" / "run.py"),
        *words,
        f"--num-nodes={job.nodes}",
        f"--devices={job.tasks}",
    ]
    seed = ' --seed "$SLURM_ARRAY_TASK_ID"' if job.seeds else ""
    stopped = " || ".join(f"[ $code -eq {code} ]" for code in STOPPED)
    return "\n".join(
        [
            "#!/bin/bash",
            *lines,
            "#SBATCH --requeue",
            *(f"#SBATCH {option}" for option in job.options),
            "",
            f"srun --kill-on-bad-exit=0 {shlex.join(run)}{seed}",
            "code=$?",
            f"if {stopped}; then  # the run has saved, and goes on",
            '    scontrol requeue "$SLURM_JOB_ID"',
            "fi",
            "exit $code",
            "",
        ]
    )


def submit(text: str, path: Path) -> str:
    """Write the batch script and submit it; return what sbatch says.

    Raises:
        InputError: there is no sbatch here, or it refuses the script.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    try:
        done = subprocess.run(["sbatch", str(path)], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise InputError(f"sbatch: not found. Submit {path} on a machine of the cluster: sbatch {path}") from None
    if done.returncode:
        raise InputError(f"sbatch {path}: {done.stderr.strip()}")
    return done.stdout.strip()
