"""The processes of a distributed run: how they meet, and how the first decides for all."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.utilities import rank_zero_only
from torch import distributed
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from src.callbacks.lightning_private import starter
from src.configs.errors import InputError
from src.experiment import Experiment
from src.runs.launched import launchers
from src.terminal import console
from src.training.failures import explain
from src.training.trainer import build_trainer

STARTED_BY = "LEYDEN_STARTED_BY"
"""Variable with the number of the process that Lightning starts others from."""
SETTING_UP = timedelta(days=7)
"""How long processes may wait for one that still prepares the data."""
PATIENCE = 15.0
"""Seconds after which a process says that it waits for the others."""
APART = 30.0
"""Seconds between the clocks of two machines that are worth a word."""
Value = TypeVar("Value")


class Elsewhere(InputError):
    """Another process of the run has ended it; the message says which, and why."""


@dataclass(frozen=True)
class Meeting:
    """All processes of this command."""

    group: Any
    """Of torch.distributed, on gloo: objects can be sent whatever the devices are."""
    store: Any
    """A store of their own: the group's is torch's, and private."""
    rank: int
    hosts: tuple[str, ...]
    """Of each process."""
    launched: tuple[str, ...]
    """What has started them; see `src.runs.launched`."""
    local_rank: int
    """Among the processes of its machine."""
    by_lightning: bool
    """Whether Lightning starts the processes; else a launcher has."""

    @property
    def first(self) -> bool:
        return self.rank == 0

    def name(self, rank: int) -> str:
        """Return how a message calls a process: with its host, where there are several."""
        return f"process {rank}" + (f" on {self.hosts[rank]}" if len({*self.hosts}) > 1 else "")


_meetings: list[Meeting] = []
"""The one of this process, if it has met others: torch has one group of all processes too."""


def is_rank_zero() -> bool:
    """Return whether this process writes: the others of a distributed run write nothing.

    NODE_RANK is of Lightning's own launch over several machines.
    """
    return getattr(rank_zero_only, "rank", 0) == 0 and os.environ.get("NODE_RANK", "0") == "0"


def meeting() -> Meeting | None:
    """Return the processes that this one has met; None where it is alone."""
    return _meetings[0] if _meetings else None


def meet(experiment: Experiment) -> None:
    """Meet the other processes of the run, if it has any; start them where Lightning starts them.

    An experiment whose trainer cannot be built meets nobody: the first process will say why.

    Raises:
        InputError: they have not come in time, or the experiment is for another number of processes.
    """
    try:
        trainer = build_trainer(experiment, [], logger=False)
    except Exception:  # also of what an experiment's own code does; it raises again when the record can say so
        return
    if _meetings:
        size = len(_meetings[0].hosts)
        if trainer.world_size != size:
            raise InputError(
                f"--devices {experiment.devices}: {type(experiment).__name__} is for {trainer.world_size} processes, "
                f"and this command has begun with {size}. Run it by a command of its own."
            )
        return
    launcher = starter(trainer)
    if trainer.world_size == 1 or launcher is None:
        return
    environment = launcher.cluster_environment
    assert environment is not None  # a launcher of processes has one
    where = f"{environment.main_address}:{environment.main_port}"
    by_lightning = isinstance(environment, LightningEnvironment)
    if by_lightning:
        os.environ.setdefault(STARTED_BY, str(os.getpid()))
    others = f"the other {trainer.world_size - 1} of {trainer.world_size} processes"
    waiting = threading.Timer(PATIENCE, console.line, ("waiting", f"for {others}, at {where}"))
    waiting.daemon = True
    waiting.start()
    try:
        launcher.launch(lambda: None)
        trainer.strategy.setup_environment()
        group: Any = distributed.new_group(backend="gloo", timeout=SETTING_UP)
    except (distributed.DistError, RuntimeError, OSError) as error:
        said = str(error).partition("\n")[0]
        raise InputError(
            f"{others} could not be met at {where}: {said}. Start all of them, with an address of the first machine "
            "that they reach and a port that is free there."
        ) from error
    finally:
        waiting.cancel()
    rank = distributed.get_rank()
    store = _own_store(environment.main_address, rank, group)
    found: list[Any] = [None] * trainer.world_size
    distributed.all_gather_object(found, (socket.gethostname(), launchers()), group=group)
    hosts = tuple(host for host, _ in found)
    started_by = tuple(sorted({name for _, names in found for name in names}))
    _meetings.append(Meeting(group, store, rank, hosts, started_by, trainer.local_rank, by_lightning))
    _compare_clocks(_meetings[0])


def _own_store(host: str, rank: int, group: Any) -> Any:
    store = TCPStore(host, 0, is_master=True, wait_for_workers=False) if rank == 0 else None
    port: list[Any] = [store.port if store else None]
    distributed.broadcast_object_list(port, src=0, group=group)
    return store or TCPStore(host, port[0], is_master=False, wait_for_workers=False)


def _compare_clocks(met: Meeting) -> None:
    """Say where machines' clocks are apart: whether a run is alive is read off its files' times."""
    times: list[float] = everyones(time.time())  # all have just left a collective
    apart = [rank for rank, when in enumerate(times) if abs(when - times[0]) > APART]
    if apart and met.first:
        seconds = times[apart[0]] - times[0]
        console.line(
            "NOTE", f"the clock of {met.name(apart[0])} is {seconds:+.0f} s from the first's: set both by one server"
        )


def launched() -> list[str]:
    """Return what has started the processes of this command; see `src.runs.launched`."""
    met = meeting()
    return launchers() if met is None else [*met.launched]


def everyones(value: Value) -> list[Value]:
    """Return the values of all processes, by rank."""
    met = meeting()
    if met is None:
        return [value]
    values: list[Any] = [None] * len(met.hosts)
    distributed.all_gather_object(values, value, group=met.group)
    return values


def told(decide: Callable[[], Value]) -> Value:
    """Have the first process decide; return in all what it has decided, which pickle has to take.

    Raises:
        Elsewhere: in the others, where the first could not decide. There the error is its own.
        SystemExit: this is not the first, but has met nobody: the first will say why.
    """
    met = meeting()
    if met is None:
        if not is_rank_zero():
            raise SystemExit(1)
        return decide()
    if met.first:
        try:
            decided = decide()
        except BaseException as error:  # an interrupt too: the others would wait for ever
            _send(met, (None, explain(error)))
            raise
        _send(met, (decided, None))
        return decided
    said: list[Any] = [None]
    try:
        distributed.broadcast_object_list(said, src=0, group=met.group)
    except RuntimeError as error:
        raise Elsewhere(f"{met.name(0)} is gone: it was killed, or its machine has failed") from error
    decided, why = said[0]
    if why is not None:
        raise Elsewhere(f"{met.name(0)}: {why}")
    return decided


def _send(met: Meeting, value: object) -> None:
    distributed.broadcast_object_list([value], src=0, group=met.group)
