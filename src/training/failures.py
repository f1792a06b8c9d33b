"""What a run's record and the user are told of an error."""

from __future__ import annotations

import errno
import math
import shutil
from pathlib import Path

from src.configs.errors import InputError

WAYS_OUT = {
    errno.ENOSPC: "Free some space (files, where `df -i` shows none free), or set LEYDEN_RUNS to another folder.",
    errno.EDQUOT: "Free some space, or set LEYDEN_RUNS to another folder.",
    errno.EMFILE: "Raise the limit of open files (`ulimit -n 4096`), or --num-workers 0.",
    errno.ENFILE: "The machine has too many open files: end other programs, or --num-workers 0.",
    errno.EROFS: "Set LEYDEN_RUNS to another folder.",
}
"""What helps against errors of the system."""
OF_FILES = ("Too many open files", "received 0 items of ancdata")
"""What torch says where a loader's processes may open no more files."""
OF_SHARED_MEMORY = ("Bus error", "unable to write to file </torch_", "unable to allocate shared memory")
"""What it says where /dev/shm is full."""


def explain(error: BaseException) -> str:
    """Return what went wrong and, where it is known, what helps."""
    said = str(error)
    if isinstance(error, InputError):
        return said
    if _of_shared_memory(error):
        return (
            f"the processes that load data share it in memory (/dev/shm: {_free_shared_memory() / 1e6:.0f} MB free), "
            "which was not enough. --num-workers 0, or give it more (docker run --shm-size 8g)."
        )
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'a file'}: {error.strerror}. {WAYS_OUT.get(error.errno or 0, '')}".rstrip()
    if isinstance(error, RuntimeError) and any(words in said for words in OF_FILES):
        return f"the processes that load data: too many open files. {WAYS_OUT[errno.EMFILE]}"
    return f"{type(error).__name__}: {said}"


def _of_shared_memory(error: BaseException) -> bool:
    """Return whether torch, or Python's semaphores, which say of no file, had too little of /dev/shm."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOSPC and error.filename is None and _free_shared_memory() < 2**20
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OF_SHARED_MEMORY)


def _free_shared_memory() -> float:
    return shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else math.inf
