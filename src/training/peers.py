"""The processes of a run end together: before the training they agree on errors, and then each hears of another's."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import distributed
from torch.distributed import PrefixStore  # pyright: ignore[reportPrivateImportUsage]

from src.configs.errors import InputError
from src.experiment import Experiment
from src.runs.provenance import code_of, versions
from src.training.failures import explain
from src.training.ranks import STARTED_BY, Elsewhere, everyones, meeting

FAILED, HEARD = "leyden failed", "leyden heard"
"""Keys of the store: why a process ended, and that the first process has written it down."""
GRACE = 5.0
"""Seconds that a process has to end by itself once another has: it may wait for the other in the midst of a step."""
MOST_NAMED = 3
"""Things that differ between two processes that a message names."""


class Peers:
    """The other processes of a run, which have been met; none where there is one process.

    Args:
        on_failure: what the first process does with the error of another: write it to the record. May be called by a
            thread of its own, while the main one waits for what the other was to do.
        name: of the run, the same in all: a process may have several runs, one after the other.
    """

    def __init__(self, on_failure: Callable[[Exception], None], name: str) -> None:
        self.on_failure = on_failure
        self.failure: Elsewhere | None = None
        self._met = meeting()
        self.agreeing = self._met is not None
        self._store: Any = PrefixStore(name, self._met.store) if self._met else None
        self._left = threading.Event()
        self._threads: list[threading.Thread] = []
        if self._met is None:
            return
        if self._met.by_lightning and self._met.local_rank > 0:
            self._begin(self._follow)

    def _follow(self) -> None:
        """End with the process that has started this one: the others would wait half an hour to meet it. Processes that
        a launcher has started are that launcher's to end.
        """
        first = int(os.environ[STARTED_BY])
        while not self._left.wait(0.5):
            if os.getppid() != first:
                os._exit(1)

    def agree(
        self, error: BaseException | None = None, *, same: Mapping[str, object] | None = None, ready: bool = False
    ) -> None:
        """Wait for all to come so far; raise an error where one has failed, or is not the same.

        Args:
            error: why this process has failed.
            same: what has to be the same in all processes: what it is -> a value, such as a hash.
            ready: whether all go to train now. From then on each listens for another's failure instead.

        Raises:
            Elsewhere: another process has failed, and this one has not.
            InputError: they are not the same, which the first process says; or one is gone.
        """
        if self._met is None or not self.agreeing:
            return
        own = None if error is None or isinstance(error, Elsewhere) else explain(error)
        self.agreeing = False
        try:
            found = everyones((own, {name: str(value) for name, value in (same or {}).items()}))
        except RuntimeError as gone:
            raise InputError("another process of the run is gone: it was killed, or its machine has failed") from gone
        failed = [f"{self._met.name(rank)}: {reason}" for rank, (reason, _) in enumerate(found) if reason]
        if failed and error is None:
            raise Elsewhere(failed[0])
        if failed or error is not None:
            return
        for rank, (_, values) in enumerate(found):
            if differing := differences(found[0][1], values):
                kind = InputError if self._met.first else Elsewhere
                raise kind(
                    f"{self._met.name(rank)} differs from {self._met.name(0)}: {'; '.join(differing)}. All need the "
                    "same code, flags and data."
                )
        self.agreeing = not ready
        if ready:
            self._begin(self._listen)

    def cause(self, error: BaseException) -> BaseException:
        """Tell the others of what ends this process; return why the run ends, which another may have said before.

        Raises:
            SystemExit: in all processes but the first, which says it.
        """
        if self._met is None or not isinstance(error, Exception):
            return error
        if self.agreeing:
            with contextlib.suppress(InputError):  # this process has its own
                self.agree(error)
        elif self.failure is None and not isinstance(error, Elsewhere):
            self._tell(error)
        if not self._met.first:
            if not isinstance(error, InputError | OSError) and self.failure is None:
                traceback.print_exception(error)
            raise SystemExit(1) from error
        return error if self.failure is None or isinstance(error, InputError) else self.failure

    def _tell(self, error: Exception) -> None:
        """Say why this process ends, unless another has, and leave the first the time to write it down."""
        assert self._met is not None
        try:
            said = f"{self._met.name(self._met.rank)}: {explain(error)}"
            heard = self._store.compare_set(FAILED, "", said).decode()
            if heard != said:
                self.failure = Elsewhere(heard)
            until = time.monotonic() + GRACE
            while not self._met.first and time.monotonic() < until and not self._store.check([HEARD]):
                time.sleep(0.1)
        except distributed.DistError:  # the first, which has the store, is gone
            self.failure = Elsewhere("the first process is gone")

    def _listen(self) -> None:
        """Wait for the failure of another process; end this one if it does not end by itself."""
        assert self._met is not None
        while not self._left.wait(0.5):
            try:
                if not self._store.check([FAILED]):
                    continue
                said = self._store.get(FAILED).decode()
            except distributed.DistError:
                said = "the first process is gone"
            if said.startswith(f"{self._met.name(self._met.rank)}: "):
                return
            self.failure = Elsewhere(said)
            if self._met.first:
                self.on_failure(self.failure)
                self._store.set(HEARD, "yes")
            if not self._left.wait(GRACE):
                if self._met.first:
                    print(f"error: {said}", file=sys.stderr, flush=True)
                os._exit(1)  # the main thread waits for the other process, in a collective that nothing else ends
            return

    def part(self) -> None:
        """Wait for all to have ended well: what the first has still to write may fail too."""
        if self._met is not None:
            distributed.barrier(group=self._met.group)
            self.leave()

    def leave(self) -> None:
        """Listen no more. A thread that is still within torch at the end of the process would abort it."""
        self._left.set()
        for thread in self._threads:
            thread.join(GRACE)

    def _begin(self, work: Callable[[], None]) -> None:
        self._threads.append(threading.Thread(target=work, name="peers", daemon=True))
        self._threads[-1].start()


def must_be_the_same(requested: Experiment, described: Mapping[str, Any]) -> dict[str, object]:
    """Return what has to be the same in all processes of a run, by name. Paths may differ from machine to machine.

    Args:
        requested: as each process was asked for it.
        described: what the record says of the data and the weights.
    """
    flags = {f"--{name.replace('_', '-')}": value for name, value in vars(requested).items()}
    return {
        "the code (a hash of src, scripts, experiments)": code_of(type(requested)),
        **versions(),
        **{name: value for name, value in flags.items() if not isinstance(value, Path)},
        "the source of the data": "a stand-in" if described["data"]["stand_in"] else "data",
        "the data (their numbers)": described["data"]["sizes"],
        "the data (a hash)": described["data"]["fingerprint"],
        "the weights": described["weights"]["source"],
    }


def differences(first: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Return what differs between two processes, in words."""
    names = [name for name in first if first[name] != other.get(name)]
    found = [f"{name} {other.get(name, 'none')} against {first[name]}" for name in names[:MOST_NAMED]]
    return [*found, f"{len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else found
