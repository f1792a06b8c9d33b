"""Processes of the server: one, or several that share a port."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from PIL import Image

from src.configs.errors import InputError
from src.deploy.server import log
from src.deploy.server.flags import SHARED, TOKEN, ServeFlags
from src.deploy.server.listener import let_no_more_in, open_listener
from src.inference.exported import certificate_of, is_export
from src.runs.exports import is_stale
from src.terminal import console

FAILED = 2
"""Exit code where the user can put something right."""
AT_ONCE_S = 10.0
"""A process that ends within so many seconds would only end again."""


def serve(flags: ServeFlags) -> int:
    """Serve until a signal; return the exit code.

    Raises:
        InputError: no such export, port or address, or the export does not answer as certified.
    """
    flags = replace(flags, token=os.environ.get(TOKEN) if flags.token is None else flags.token)
    flags = replace(flags, export=export_of(flags.export))
    with open_listener(flags.host, flags.port) as listener:
        host, port = listener.getsockname()[:2]
        at = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        console.line("serving", f"{flags.export}")
        console.line("address", f"{at}   API: {at}/docs   stop: Ctrl-C, or SIGTERM to {os.getpid()}")
        return run(flags, listener) if flags.workers == 1 else run_several(flags, listener)


def export_of(path: Path) -> Path:
    """Return the export of a path: itself, or that of a run, which is made where there is none of its weights."""
    if is_export(path):
        return path
    if not (path / "run.json").is_file():
        raise InputError(f"{path}: neither an export nor a run. Name runs/<Experiment>/<id> or its export/onnx.")
    if is_export(folder := path / "export" / "onnx"):
        if not is_stale(path, certificate_of(folder)):
            return folder
        console.line("NOTE", f"{folder}: of earlier weights of this run, so it is exported again")
    from src.deploy.export import export  # the one place that needs torch

    return export(path)


def run(flags: ServeFlags, listener: socket.socket) -> int:
    """Serve in this process; return the exit code.

    Raises:
        InputError: the export does not answer as certified.
    """
    try:
        import uvicorn

        from src.deploy.server.app import build
        from src.deploy.server.connections import KEEP_ALIVE_S, Connection, Server
        from src.deploy.server.middleware import Middleware
        from src.deploy.server.service import Service
    except ImportError as error:
        raise InputError(f"the server needs {error.name}. pip install -e '.[deploy]'") from error
    log.set_up()
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # `model.bomb` judges
    service = Service(flags)
    Connection.seconds = flags.timeout
    config = uvicorn.Config(
        Middleware(build(service), service),
        http=Connection,
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    server = Server(config, service)
    server.run([listener])
    if server.failure:
        raise server.failure
    return 0


def run_several(flags: ServeFlags, listener: socket.socket) -> int:
    """Serve in several processes that accept from one socket; return the exit code.

    A process that dies is replaced. One that ends at once, as where the export is refused, ends all.
    """
    log.set_up()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    shared = os.environ[SHARED] = tempfile.mkdtemp(prefix="leyden-metrics-")
    try:
        code = _supervise(lambda: _started(flags, listener), flags.workers, stop, listener, flags.drain)
    finally:
        shutil.rmtree(shared, ignore_errors=True)
    return code


def _supervise(
    start: Callable[[], SpawnProcess], count: int, stop: threading.Event, listener: socket.socket, drain: float
) -> int:
    began = {start(): time.monotonic() for _ in range(count)}
    code = 0
    while not stop.is_set():
        wait([process.sentinel for process in began], timeout=0.1)
        for process in [one for one in began if not one.is_alive()]:
            if stop.is_set():
                break
            lived = time.monotonic() - began.pop(process)
            fields = {"pid": process.pid, "exit_code": process.exitcode, "lived_s": round(lived, 1)}
            logging.getLogger("leyden.server").error("process ended", extra={"fields": fields})
            if process.exitcode == FAILED or lived < AT_ONCE_S:
                code = process.exitcode or 1
                stop.set()
            else:
                from prometheus_client.multiprocess import mark_process_dead

                mark_process_dead(process.pid)
                began[start()] = time.monotonic()
    let_no_more_in(listener)
    listener.close()  # before they close theirs: the kernel would hold connections that nobody accepts
    for process in began:
        process.terminate()
    end = time.monotonic() + drain + 1
    for process in began:
        process.join(max(0.0, end - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
    return code


def _started(flags: ServeFlags, listener: socket.socket) -> SpawnProcess:
    process = multiprocessing.get_context("spawn").Process(target=_work, args=(flags, listener))
    process.start()
    return process


def _work(flags: ServeFlags, listener: socket.socket) -> None:
    """Serve as one process of several; end in order when the first one is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def outlive() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=outlive, daemon=True).start()
    try:
        code = run(flags, listener)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        code = FAILED
    raise SystemExit(code)
