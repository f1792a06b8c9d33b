"""Which launcher has started a process. Started again by it, a command goes on with the run that it had begun."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from src.configs.errors import InputError
from src.runs import records, state


def launchers() -> list[str]:
    """Return the names of what has started this process, which no other start has: torchrun's agent, Slurm's job."""
    found: list[str] = []
    if "TORCHELASTIC_RUN_ID" in os.environ:  # the id is 'none' unless one is given, and one is given again and again
        agent = os.getppid()
        found.append(f"torchrun {socket.gethostname()} {agent} {state.started(agent)}")
    if job := os.environ.get("SLURM_JOB_ID"):
        found.append(f"slurm {os.environ.get('SLURM_CLUSTER_NAME', '')} {job}")
    return found


def restarted_by(launched: Sequence[str]) -> set[str]:
    """Return those launchers that may have started the command before: torchrun's agent has one command; a Slurm job
    may have many, and is a restart where Slurm says so."""
    requeued = int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0
    return {name for name in launched if requeued or not name.startswith("slurm ")}


def same_launch(record: Mapping[str, Any]) -> bool:
    """Return whether a launcher that has started this process had started the one that last wrote a record. That one
    has ended: a launcher ends all processes before it starts them again."""
    return bool(restarted_by(launchers()) & {*record.get("launch", ())})


def earlier_run(name: str, seed: int, launched: Sequence[str]) -> Path | None:
    """Return the run that an earlier start of this command, by the same launcher, has begun; None where there is none.

    Args:
        name: of the experiment.
        seed: of the run: a command may have several.
        launched: what has started all its processes.
    """
    again = restarted_by(launched)
    for path in sorted((records.runs_dir() / name).glob("*/run.json"), reverse=True) if again else ():
        try:
            record = records.load(path.parent)
        except InputError:  # another run's
            continue
        if again & {*record.get("launch", ())} and (record.get("command"), record.get("seed")) == (sys.argv, seed):
            return path.parent
    return None
