"""The study of a search: Optuna's trials, in a journal in the search's folder that survives a kill at any moment."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from src.configs.errors import InputError

if TYPE_CHECKING:
    import optuna

NAME = "search"
"""Of the study in its journal."""


def study_of(run: Path) -> optuna.Study:
    """Return the study of a search, to be read: its trials so far.

    Raises:
        InputError: the directory is no search, or Optuna is not installed.
    """
    if not (run / "journal.log").is_file():
        raise InputError(f"{run}: no search (it has no journal.log). Name the directory that scripts/search.py made.")
    return open_study(run)


def open_study(folder: Path, direction: str | None = None) -> optuna.Study:
    """Return the study in a search's folder; where a direction is named, 'minimize' or 'maximize', make one if there is
    none.

    Its trials change only while `lock_of(folder)` is held.
    """
    optuna = imported()
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.storages.journal._file import BaseJournalFileLock

    class Lock(BaseJournalFileLock):
        """The system's lock, which ends with its process; Optuna's own stay for half a minute where one is killed."""

        def acquire(self) -> bool:
            lock.acquire()
            return True

        def release(self) -> None:
            lock.release()

    class Journal(JournalFileBackend):
        """A journal whose last line may be half of one: of a process that was killed, or on a full disk."""

        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            with lock:
                mend(path)
                super().append_logs(logs)

    path, lock = folder / "journal.log", lock_of(folder)
    storage = JournalStorage(Journal(str(path), Lock()))
    if direction is None:
        return optuna.load_study(study_name=NAME, storage=storage)
    return optuna.create_study(study_name=NAME, storage=storage, direction=direction, load_if_exists=True)


def imported() -> Any:
    """Return Optuna, which keeps its news to itself from then on.

    Raises:
        InputError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise InputError("searching needs Optuna: `pip install --editable '.[search]'`.") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for message in (".*PartialFixedSampler is experimental.*", ".*Argument ``group`` is an experimental feature.*"):
        warnings.filterwarnings("ignore", message, category=optuna.exceptions.ExperimentalWarning)
    return optuna


def lock_of(folder: Path) -> FileLock:
    """Return the lock of a search's journal, one object for the process: who holds it can take it again."""
    return FileLock(folder / "journal.lock", is_singleton=True)


def mend(path: Path) -> None:
    """Remove a last line that has no end."""
    with open(path, "r+b") as file:
        size = file.seek(0, 2)
        if not size:
            return
        file.seek(size - 1)
        if file.read() == b"\n":
            return
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
