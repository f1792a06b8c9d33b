"""Batches the inputs of all waiting requests; it never waits for more."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from src.configs.errors import InputError
from src.datamodules.preparation import PredictionInput
from src.deploy.server.model import Answer, Item, Model
from src.deploy.server.refused import Refused, busy
from src.inference.exported import Batch


class Part(NamedTuple):
    """Inputs of one request, at most as many as a batch."""

    inputs: Sequence[PredictionInput]
    answers: asyncio.Future[list[Answer]]
    gone: Callable[[], bool]
    """Whether the client has gone."""


class Prepared(NamedTuple):
    """Parts that are read, and their inputs as arrays."""

    parts: list[Part]
    batches: list[Batch]

    @property
    def size(self) -> int:
        return sum(len(part.inputs) for part in self.parts)


class Batcher:
    """Two threads: one reads inputs and makes arrays of them while the other runs the graph.

    Args:
        model: that answers.
        max_queue: requests that may wait.
        seen: is told the number of inputs of each batch.
    """

    def __init__(self, model: Model, max_queue: int, seen: Callable[[int], object]) -> None:
        self.model, self.max_queue, self.seen = model, max_queue, seen
        self.waiting: queue.SimpleQueue[Part] = queue.SimpleQueue()
        self.prepared: queue.Queue[Prepared] = queue.Queue(1)
        self.loop = asyncio.get_running_loop()
        for work in (self._prepare, self._run):
            threading.Thread(target=work, name=work.__name__, daemon=True).start()

    async def answer(self, items: Sequence[Item], gone: Callable[[], bool] = lambda: False) -> list[Answer]:
        """Return the answer to each input; those with an error are not computed.

        A long request goes in parts, between which others have their turn.

        Args:
            items: the inputs.
            gone: says whether the client has gone, also to other threads; what it still waits for is not computed.

        Raises:
            Refused: too many wait, or the client has gone.
        """
        if self.waiting.qsize() >= self.max_queue:
            raise busy(f"{self.max_queue} requests wait already.")
        good, size = [item.raw for item in items if not item.error], self.model.at_once
        answers: list[Answer] = []
        for start in range(0, len(good), size):
            part = Part(good[start : start + size], self.loop.create_future(), gone)
            self.waiting.put(part)
            answers += await part.answers
        computed = iter(answers)
        return [{"error": item.error} if item.error else next(computed) | _ignored(item) for item in items]

    def _prepare(self) -> None:
        last: Part | None = None
        while True:
            parts, room = [last or self.waiting.get()], self.model.at_once
            last = None
            room -= len(parts[0].inputs)
            while room > 0 and not self.waiting.empty():
                part = self.waiting.get()
                if len(part.inputs) > room:
                    last = part  # begins the next batch
                    break
                parts.append(part)
                room -= len(part.inputs)
            if parts := self._wanted(parts):
                try:
                    self.prepared.put(self._read(parts))
                except Exception as error:
                    self._one_by_one(parts, error)

    def _wanted(self, parts: Sequence[Part]) -> list[Part]:
        """Return the parts whose clients are there; the others' requests end."""
        wanted: list[Part] = []
        for part in parts:
            if part.gone():
                self.loop.call_soon_threadsafe(_fail, part, Refused(400, "the client went away."))
            else:
                wanted.append(part)
        return wanted

    def _run(self) -> None:
        while True:
            prepared = self.prepared.get()
            try:
                self._answer(prepared)
            except Exception as error:
                self._one_by_one(prepared.parts, error)

    def _read(self, parts: list[Part]) -> Prepared:
        exported = self.model.exported
        inputs = [one for part in parts for one in part.inputs]
        return Prepared(parts, [*exported.batches(exported.read(inputs, []))])

    def _answer(self, prepared: Prepared) -> None:
        answers = self.model.answers(self.model.exported.collected(prepared.size, prepared.batches))
        self.seen(prepared.size)
        self.loop.call_soon_threadsafe(_deliver, prepared.parts, answers)

    def _one_by_one(self, parts: list[Part], error: Exception) -> None:
        """Answer parts apart where their batch has failed: what one request asks is no other's fault."""
        if len(parts) == 1:
            self.loop.call_soon_threadsafe(_fail, parts[0], error)
            return
        for part in parts:
            try:
                self._answer(self._read([part]))
            except Exception as own:
                self.loop.call_soon_threadsafe(_fail, part, own)


def _ignored(item: Item) -> Answer:
    return {"ignored": [*item.ignored]} if item.ignored else {}


def _deliver(parts: Sequence[Part], answers: Sequence[Answer]) -> None:
    start = 0
    for part in parts:
        end = start + len(part.inputs)
        if not part.answers.done():  # cancelled where the server ends before it is answered
            part.answers.set_result([*answers[start:end]])
        start = end


def _fail(part: Part, error: Exception) -> None:
    if not part.answers.done():
        part.answers.set_exception(Refused(422, str(error)) if isinstance(error, InputError) else error)
