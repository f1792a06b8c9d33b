"""Servers of exports: real processes, which the tests speak to over HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from conftest import ROOT


class Reply(NamedTuple):
    """What a server said."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return self.json["error"]


class Served:
    """A server in a process of its own.

    Args:
        export: that is served.
        folder: for what it prints.
        flags: of serve.py.
    """

    def __init__(self, export: Path, folder: Path, *flags: str, **environment: str) -> None:
        self.export, self.log, self.out = export, folder / "log.jsonl", folder / "out.txt"
        command = [sys.executable, ROOT / "scripts/serve.py", export, "--port", "0", *flags]
        with open(self.out, "wb") as out, open(self.log, "wb") as log:
            own = {"OMP_NUM_THREADS": "1"} | environment
            self.process = subprocess.Popen(
                [*map(str, command)], stdout=out, stderr=log, env=os.environ | own, cwd=folder
            )
        end = time.monotonic() + 60
        while "address" not in (said := self.out.read_text("utf-8")):
            assert self.process.poll() is None, self.log.read_text("utf-8")
            assert time.monotonic() < end, "the server did not start"
            time.sleep(0.02)
        self.port = int(said.partition("http://127.0.0.1:")[2].split()[0])

    def until_ready(self) -> Served:
        end = time.monotonic() + 60
        while self.get("/health/ready").status != 200:
            assert self.process.poll() is None, self.log.read_text("utf-8")
            assert time.monotonic() < end, "the server is not ready"
            time.sleep(0.02)
        return self

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def socket(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def ask(self, method: str, path: str, body: Any = None, kind: str = "", **headers: str) -> Reply:
        """Return the reply to a request; headers have _ for -."""
        there = {name.replace("_", "-"): value for name, value in headers.items()}
        with contextlib.closing(self.connect()) as connection:
            connection.request(method, path, body, there | ({"content-type": kind} if kind else {}))
            found = connection.getresponse()
            return Reply(found.status, {k.lower(): v for k, v in found.getheaders()}, found.read())

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, **headers)

    def predict(self, body: bytes | str, kind: str = "application/json", **headers: str) -> Reply:
        return self.ask("POST", "/predict", body.encode() if isinstance(body, str) else body, kind, **headers)

    def predict_json(self, found: Any) -> Reply:
        return self.predict(json.dumps(found))

    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text("utf-8").splitlines()]

    @property
    def memory(self) -> float:
        """Resident memory in MB."""
        import psutil

        return psutil.Process(self.process.pid).memory_info().rss / 1e6

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


@contextlib.contextmanager
def serving(export: Path, folder: Path, *flags: str, **environment: str) -> Iterator[Served]:
    """Serve until the end of `with`."""
    folder.mkdir(parents=True, exist_ok=True)
    served = Served(export, folder, *flags, **environment)
    try:
        yield served.until_ready()
    finally:
        if served.process.poll() is None:
            served.process.kill()
            served.process.wait()


def form(*files: bytes, names: tuple[str, ...] = ()) -> tuple[bytes, str]:
    """Return a multipart body of files and its content type."""
    parts = []
    for number, contents in enumerate(files):
        name = names[number] if names else f"{number}.bin"
        head = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        parts += [head.encode(), contents, b"\r\n"]
    return b"".join([*parts, b"--x--\r\n"]), "multipart/form-data; boundary=x"
