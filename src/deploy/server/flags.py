"""The flags of serve.py."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import tyro

from src.configs.errors import InputError

TOKEN = "LEYDEN_TOKEN"
"""Environment variable that stands in for --token."""
SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable of prometheus_client: the folder in which processes count together. Set before its import."""
MIB = 2**20
MOST_PARALLEL = max(64, 4 * (os.cpu_count() or 1))
"""More processes or threads than this only take memory."""


@dataclass(frozen=True, kw_only=True)
class ServeFlags:
    """Serve an export over HTTP: a page at /, the API at /docs. A run is exported first where it has no export yet.

    Lines for people go to standard output, the access log, one JSON object a request, to standard error.
    """

    export: tyro.conf.Positional[Path]
    """Export, runs/<Experiment>/<id>/export/onnx or a copy of it; or a run directory."""
    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 lets other machines in."""
    port: int = 8000
    """Port to listen at; 0 takes a free one."""
    token: str | None = None
    """Bearer token that requests must carry. Others see it in the process list: better set LEYDEN_TOKEN."""
    workers: int = 1
    """Processes, each with the whole model."""
    threads: int = 1
    """Threads that share the work of one batch, in each process."""
    queue: int = 256
    """Requests that may wait in a process; more get 503."""
    max_body: float = 16
    """Largest body, in MiB (413)."""
    timeout: float = 30
    """Seconds that a client may take for its headers, and again for its body (408)."""
    drain: float = 10
    """Seconds after SIGTERM within which accepted requests are answered, before the process ends."""
    no_access_log: tyro.conf.FlagCreatePairsOff[bool] = False
    """Do not log requests."""
    no_color: tyro.conf.FlagCreatePairsOff[bool] = False
    """No colours, as with the environment variable NO_COLOR."""

    def __post_init__(self) -> None:
        if not 0 <= self.port < 2**16:
            raise InputError(f"--port {self.port}: ports are 0 to 65535. --port 8000 is the default.")
        for name, value in (("workers", self.workers), ("threads", self.threads)):
            if not 1 <= value <= MOST_PARALLEL:
                raise InputError(f"--{name} {value}: 1 to {MOST_PARALLEL} on this machine.")
        if self.queue < 1:
            raise InputError(f"--queue {self.queue}: at least 1.")
        if not 1e-6 <= self.max_body <= 1e6:
            raise InputError(f"--max-body {self.max_body:g}: 0.000001 (1 byte) to 1000000 MiB.")
        for name, value in (("timeout", self.timeout), ("drain", self.drain)):
            if not 0.1 <= value <= 1e6:
                raise InputError(f"--{name} {value:g}: 0.1 to 1000000 seconds.")
        if self.token is not None:
            require_token(self.token, "--token")

    @property
    def max_bytes(self) -> int:
        return int(self.max_body * MIB)


def require_token(token: str, name: str) -> None:
    """Raise an InputError where a token, which a flag or a variable of this name gave, cannot be sent."""
    if not (token.isascii() and token.isprintable() and token.strip()):
        raise InputError(f"{name}: empty, or with characters that no header can carry.")
