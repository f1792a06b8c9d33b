"""Several processes on this machine, by torchrun."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from src.configs.errors import InputError
from src.resources.files import ROOT


def command(words: Sequence[str], processes: int, max_restarts: int) -> list[str]:
    """Return the command that runs `run.py` in so many processes.

    Args:
        words: of run.py: experiments and flags.
        processes: of this machine.
        max_restarts: how often all are started again where one has ended badly; the run then goes on.

    Raises:
        InputError: no such number of processes or restarts.
    """
    if processes < 1:
        raise InputError(f"--processes {processes}: at least 1.")
    if max_restarts < 0:
        raise InputError(f"--max-restarts {max_restarts}: at least 0.")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [
        *torchrun,
        f"--max-restarts={max_restarts}",
        str(ROOT / "scripts" / "run.py"),
        *words,
        f"--devices={processes}",
    ]


FRESH_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
"""Has torchrun give processes that it starts again a store of their own. They share the first ones' else (torch 2.14),
and may read there where those listened."""


def launch(torchrun: Sequence[str], processes: int) -> int:
    """Run the `command`; return its exit code. The machine's cores are divided among the processes."""
    threads = max(1, (os.cpu_count() or 1) // processes)
    environment = {"OMP_NUM_THREADS": str(threads)} | FRESH_STORE | os.environ
    return subprocess.run(torchrun, env=environment, check=False).returncode
