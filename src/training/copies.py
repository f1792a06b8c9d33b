"""Files of a run for machines that do not see the run directory: copies in their caches, as long as it runs."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import torch
from torch import distributed

from src.resources.cache import cache_dir
from src.resources.files import digest_of
from src.training.ranks import everyones, meeting, told

CHUNK = 2**26
"""Bytes that are sent at once."""


class Copies:
    """Where each process finds the run's files: `folder`.

    That is the run directory, or on a machine that does not see it, a folder of the cache, which is empty until
    `fetch`. All processes have to make one, and call its methods, in the same places.

    Args:
        run: the run directory, which the first process has begun to write.
    """

    def __init__(self, run: Path) -> None:
        self.run = self.folder = run
        self.met = meeting()
        if self.met is None:
            self.apart = False
            return
        record = run / "run.json"
        of_first = told(lambda: digest_of(record))
        sees = record.is_file() and digest_of(record) == of_first
        self.apart = not all(everyones(sees))
        self.writes = not sees and self.met.local_rank == 0
        if not sees:  # one folder for all processes of the machine, named by the first of them
            machine = self.met.rank - self.met.local_rank
            self.folder = cache_dir() / "copies" / f"{run.parent.name}-{run.name}-{machine}"
        if self.writes:
            shutil.rmtree(self.folder, ignore_errors=True)  # of a run that was killed

    def fetch(self, *patterns: str) -> None:
        """Copy the first machine's files that match to where they are not seen. The other processes of a machine may
        read them when all have agreed, or have met in any other way, after that.

        Raises:
            OSError: a file cannot be read or written; where it is so alone.
        """
        if not self.apart:
            return

        def sizes() -> dict[str, int]:
            found = [path for pattern in patterns for path in self.run.glob(pattern) if path.is_file()]
            return {str(path.relative_to(self.run)): path.stat().st_size for path in found}

        for name, size in told(sizes).items():
            self._copy(name, size)

    def _copy(self, name: str, size: int) -> None:
        assert self.met is not None
        failed: OSError | None = None
        with contextlib.ExitStack() as held:
            source = target = None
            try:
                if self.met.first:
                    source = held.enter_context(open(self.run / name, "rb"))
                elif self.writes:
                    (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                    target = held.enter_context(open(self.folder / name, "wb"))
            except OSError as error:
                failed = error
            for begin in range(0, size, CHUNK):  # all take part to the end, whatever has failed: the others wait
                chunk = torch.zeros(min(CHUNK, size - begin), dtype=torch.uint8)
                try:
                    if source is not None:
                        source.readinto(chunk.numpy().data)
                    distributed.broadcast(chunk, src=0, group=self.met.group)
                    if target is not None:
                        target.write(chunk.numpy().data)
                except OSError as error:
                    failed, target = error, None
        if failed is not None:
            raise failed

    def remove(self) -> None:
        """Remove what was copied to this machine."""
        if self.apart and self.writes:
            shutil.rmtree(self.folder, ignore_errors=True)
