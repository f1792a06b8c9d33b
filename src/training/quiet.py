"""Runs within somebody else's process, which is left as it was."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator

from lightning.pytorch.utilities.seed import isolate_rng

from src.callbacks.graceful_stop import handling, interrupt
from src.runs import summary
from src.training.trainer import quieten

SEED_VARIABLES = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")
"""What Lightning leaves in the environment when it seeds."""


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Print progress alone; afterwards warnings, logging, random generators, environment and signals are as before."""
    logger = logging.getLogger("lightning.pytorch")
    level, environment = logger.level, {name: os.environ.get(name) for name in SEED_VARIABLES}
    try:
        with warnings.catch_warnings(), isolate_rng(), summary.silent(), handling(interrupt):
            quieten()
            yield
    finally:
        logger.setLevel(level)
        for name, value in environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
