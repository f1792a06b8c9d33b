"""What all requests of a process share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from src.deploy.server.batching import Batcher
from src.deploy.server.bodies import Bodies
from src.deploy.server.flags import ServeFlags
from src.deploy.server.metrics import Metrics
from src.deploy.server.model import Model, open_model
from src.deploy.server.refused import Refused


@dataclass(eq=False)
class Service:
    """The state of a process of the server.

    Args:
        flags: of serve.py.
    """

    flags: ServeFlags
    metrics: Metrics = field(init=False, default_factory=Metrics)
    bodies: Bodies = field(init=False)
    draining: bool = field(init=False, default=False)
    """The process ends once what it has accepted is answered."""
    loaded: Model | None = field(init=False, default=None)
    batcher: Batcher = field(init=False)

    def __post_init__(self) -> None:
        self.bodies = Bodies(self.flags.most_bytes, self.flags.timeout)

    async def load(self) -> None:
        """Open the export, and let it answer its worked examples.

        Raises:
            InputError: they do not come out as certified.
        """
        model = await asyncio.to_thread(open_model, self.flags.export, threads=self.flags.threads)
        self.batcher = Batcher(model, self.flags.queue, self._seen)
        self.loaded = model

    @property
    def model(self) -> Model:
        """The model.

        Raises:
            Refused: it is not loaded yet.
        """
        if self.loaded is None:
            raise Refused(503, "the model is being loaded.", {"retry-after": "1"})
        return self.loaded

    @property
    def ready(self) -> bool:
        return self.loaded is not None and not self.draining

    def _seen(self, inputs: int) -> None:
        self.metrics.batches.observe(inputs)
        self.metrics.waiting.set(self.batcher.waiting.qsize())
