"""The flags of serve.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from src.configs.errors import InputError

TOKEN = "LEYDEN_TOKEN"
"""Environment variable that stands in for --token."""
SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable of prometheus_client: the folder in which processes count together. Set before its import."""
MIB = 2**20


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
    access_log: tyro.conf.FlagCreatePairsOff[bool] = True
    """Write a line a request."""
    no_color: tyro.conf.FlagCreatePairsOff[bool] = False
    """No colours, as with the environment variable NO_COLOR."""

    def __post_init__(self) -> None:
        if not 0 <= self.port < 2**16:
            raise InputError(f"--port {self.port}: ports are 0 to 65535. --port 8000 is the default.")
        for name, value in (("workers", self.workers), ("threads", self.threads), ("queue", self.queue)):
            if value < 1:
                raise InputError(f"--{name} {value}: at least 1.")
        for name, value in (("max-body", self.max_body), ("timeout", self.timeout), ("drain", self.drain)):
            if not 0 < value < 1e6:
                raise InputError(f"--{name} {value:g}: more than 0.")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token.strip()):
            raise InputError(f"--token, or {TOKEN}: empty, or with characters that no header can carry.")

    @property
    def max_bytes(self) -> int:
        return int(self.max_body * MIB)
