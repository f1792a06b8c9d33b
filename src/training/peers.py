"""The processes of a run end together: before the training they agree on errors, and then each hears of another's."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Trainer
from torch import distributed
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from src.callbacks.lightning_private import starter
from src.configs.errors import InputError
from src.training.failures import explain

FAILED, HEARD = "leyden failed", "leyden heard"
"""Keys of the store: why a process ended, and that the first process has written it down."""
STARTED_BY = "LEYDEN_STARTED_BY"
"""Variable with the number of the process that Lightning starts others from."""
GRACE = 5.0
"""Seconds that a process has to end by itself once another has: it may wait for the other in the midst of a step."""
SETTING_UP = timedelta(days=7)
"""How long processes may wait for one that still prepares the data."""


class Elsewhere(InputError):
    """Another process of the run has ended it; the message says which, and why."""


class Peers:
    """The other processes of a run, started by torchrun, a cluster or Lightning; none where there is one process.

    Args:
        on_failure: what the first process does with the error of another: write it to the record. May be called by a
            thread of its own, while the main one waits for what the other was to do.
    """

    def __init__(self, on_failure: Callable[[Exception], None]) -> None:
        self.on_failure = on_failure
        self.agreeing = False
        self.failure: Elsewhere | None = None
        self._store: Any = None
        self._group: Any = None
        self._left = threading.Event()
        self._threads: list[threading.Thread] = []

    def join(self, trainer: Trainer) -> None:
        """Meet the others, started where Lightning starts them, which it would do with the training only."""
        launcher = starter(trainer)
        if trainer.world_size == 1 or launcher is None:
            return
        if isinstance(launcher.cluster_environment, LightningEnvironment):
            self._follow(trainer.local_rank)
        launcher.launch(lambda: None)
        trainer.strategy.setup_environment()
        self.first = distributed.get_rank() == 0
        self._group = distributed.new_group(backend="gloo", timeout=SETTING_UP)
        self._store = self._meet()
        self.agreeing = True
        self._begin(self._listen)

    def _follow(self, local_rank: int) -> None:
        """Have a process that the first of its machine has started end with it, which it would wait for half an hour to
        meet. Processes that a launcher has started are that launcher's to end.
        """
        if local_rank == 0:
            os.environ[STARTED_BY] = str(os.getpid())
        if local_rank == 0 or STARTED_BY not in os.environ:
            return

        def watch(first: int) -> None:
            while not self._left.wait(0.5):
                if os.getppid() != first:
                    os._exit(1)

        self._begin(lambda: watch(int(os.environ[STARTED_BY])))

    def _meet(self) -> Any:
        """Return a store of this run's own: the group's is torch's, and private."""
        host = os.environ["MASTER_ADDR"]
        store = TCPStore(host, 0, is_master=True, wait_for_workers=False) if self.first else None
        port: list[Any] = [store.port if store else None]
        distributed.broadcast_object_list(port, src=0, group=self._group)
        return store or TCPStore(host, port[0], is_master=False, wait_for_workers=False)

    def agree(self, error: BaseException | None = None) -> None:
        """Wait for all to be ready to train; raise an error where one is not.

        Args:
            error: why this process is not.

        Raises:
            Elsewhere: another process is not ready, and this one is.
        """
        if not self.agreeing:
            return
        self.agreeing = False
        own = None if error is None else explain(error)
        reasons: list[str | None] = [None] * distributed.get_world_size()
        distributed.all_gather_object(reasons, own, group=self._group)
        said = [f"process {rank}: {reason}" for rank, reason in enumerate(reasons) if reason]
        if said and error is None:
            raise Elsewhere(said[0])

    def cause(self, error: BaseException) -> BaseException:
        """Tell the others of what ends this process; return why the run ends, which another may have said before.

        Raises:
            SystemExit: in all processes but the first, which says it.
        """
        if self._store is None or not isinstance(error, Exception):
            return error
        if self.agreeing:
            self.agree(error)
        elif self.failure is None and not isinstance(error, Elsewhere):
            self._tell(error)
        if not self.first:
            if not isinstance(error, InputError | OSError) and self.failure is None:
                traceback.print_exception(error)
            raise SystemExit(1) from error
        return error if self.failure is None or isinstance(error, InputError) else self.failure

    def _tell(self, error: Exception) -> None:
        """Say why this process ends, unless another has, and leave the first the time to write it down."""
        try:
            said = f"process {distributed.get_rank()}: {explain(error)}"
            heard = self._store.compare_set(FAILED, "", said).decode()
            if heard != said:
                self.failure = Elsewhere(heard)
            until = time.monotonic() + GRACE
            while not self.first and time.monotonic() < until and not self._store.check([HEARD]):
                time.sleep(0.1)
        except distributed.DistError:  # the first, which has the store, is gone
            self.failure = Elsewhere("the first process is gone")

    def _listen(self) -> None:
        """Wait for the failure of another process; end this one if it does not end by itself."""
        while not self._left.wait(0.5):
            try:
                if not self._store.check([FAILED]):
                    continue
                said = self._store.get(FAILED).decode()
            except distributed.DistError:
                said = "the first process is gone"
            if said.startswith(f"process {distributed.get_rank()}: "):
                return
            self.failure = Elsewhere(said)
            if self.first:
                self.on_failure(self.failure)
                self._store.set(HEARD, "yes")
            if not self._left.wait(GRACE):
                if self.first:
                    print(f"error: {said}", file=sys.stderr, flush=True)
                os._exit(1)  # the main thread waits for the other process, in a collective that nothing else ends
            return

    def part(self) -> None:
        """Wait for all to have ended well: what the first has still to write may fail too."""
        if self._store is not None:
            distributed.barrier(group=self._group)
            self.leave()
            distributed.destroy_process_group(self._group)

    def leave(self) -> None:
        """Listen no more. A thread that is still within torch at the end of the process would abort it."""
        self._left.set()
        for thread in self._threads:
            thread.join(GRACE)

    def _begin(self, work: Callable[[], None]) -> None:
        self._threads.append(threading.Thread(target=work, name="peers", daemon=True))
        self._threads[-1].start()
