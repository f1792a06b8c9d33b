"""One process alone writes to a run."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from src.configs.errors import InputError
from src.resources.files import remove_leftovers
from src.runs import records, state
from src.runs.launched import same_launch
from src.runs.records import Record

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)
"""What a file system without locks answers."""


class AtWork(InputError):
    """Another process is at work on the run."""


@contextlib.contextmanager
def only_writer(run: Path, *, resumed: bool) -> Iterator[Record]:
    """Yield a run's record, and hold its lock, which ends with this process at the latest.

    What killed writes have left in the run directory is removed first. A lock of another host may not be seen here, and
    some file systems have none: then the heartbeat tells, see `state.state_of`.

    Args:
        run: its directory.
        resumed: whether it has a record.

    Raises:
        AtWork: another process works on the run.
        InputError: the run cannot be written, or a link leads out of it.
    """
    if resumed and not (run / "run.json").is_file():
        records.load(run)  # raises, and says which runs there are
    refuse_links(run)
    with contextlib.ExitStack() as held:
        locked = False
        try:
            held.enter_context(FileLock(run / "lock", timeout=0))
            locked = True
        except Timeout:
            raise _at_work(Record.read(run) if resumed else Record(run)) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise InputError(f"{run}: cannot be written ({error.strerror}).") from error
        record = Record.read(run) if resumed else Record(run)
        if resumed:
            refuse_running(record, locked=locked)
        for folder in (run, run / "checkpoints", run / "tokenizer"):
            remove_leftovers(folder)
        yield record


def refuse_running(record: Record, *, locked: bool) -> None:
    """Raise an `AtWork` where a process that the lock does not tell of is at work on a run."""
    here = record.get("host") == socket.gethostname()
    if same_launch(record):
        return
    ours = all(record.get(name) == value for name, value in state.writer().items())
    if not (ours or (here and locked)) and state.state_of(record.folder, record) == "running":
        raise _at_work(record)


def refuse_links(run: Path) -> None:
    """Raise an InputError where what is written to a run would change something outside of it."""
    for folder, below, names in os.walk(run):
        for name in (*below, *names):
            path = Path(folder, name)
            if path.is_symlink() and not path.resolve().is_relative_to(run.resolve()):
                raise InputError(
                    f"{path}: a link to {path.readlink()}, outside of the run, whose files are written. Put there "
                    "what it leads to."
                )
            if path.exists() and not (path.is_file() or path.is_dir()):
                raise InputError(f"{path}: no file that can be written. Remove it.")


def _at_work(record: Record) -> AtWork:
    """Return the error that names the process that works on a run; its record may not be written yet."""
    other = f"process {record.get('pid')} on {record.get('host')}" if record else "another process"
    return AtWork(f"{record.folder}: {other} is at work on this run. Stop it first, or wait.")
