"""What all requests of a process share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from src.configs.errors import InputError
from src.deploy.server.batching import Batcher
from src.deploy.server.bodies import Bodies
from src.deploy.server.flags import ServeFlags
from src.deploy.server.metrics import Metrics
from src.deploy.server.model import Model, open_model
from src.deploy.server.refused import busy


class Service:
    """The state of a process of the server.

    Args:
        flags: of serve.py.
        on_ready: is told how many worked examples came out as certified.
    """

    batcher: Batcher
    """There once the model is loaded."""

    def __init__(self, flags: ServeFlags, on_ready: Callable[[int], object] = lambda _: None) -> None:
        self.flags, self.on_ready, self.metrics = flags, on_ready, Metrics()
        self.bodies = Bodies(flags.max_bytes, flags.timeout)
        self.loaded: Model | None = None
        self.draining = False
        """The process ends once what it has accepted is answered."""

    async def load(self) -> None:
        """Open the export, and let it answer its worked examples.

        Raises:
            InputError: they do not come out as certified, or the export cannot be loaded.
        """
        export = self.flags.export
        try:
            model = await asyncio.to_thread(open_model, export, threads=self.flags.threads)
        except InputError:
            raise
        except Exception as error:  # files of an export may hold anything
            why = f"{type(error).__name__}: {error}"
            raise InputError(f"{export}: cannot be loaded ({why}). Export the run again.") from error
        self.batcher = Batcher(model, self.flags.queue, self.metrics.batches.observe)
        self.loaded = model
        self.on_ready(model.proved)

    @property
    def model(self) -> Model:
        """The model.

        Raises:
            Refused: it is not loaded yet.
        """
        if self.loaded is None:
            raise busy("the model is being loaded.")
        return self.loaded

    @property
    def ready(self) -> bool:
        return self.loaded is not None and not self.draining
