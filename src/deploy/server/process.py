"""Processes of the server: one, or several that share a port."""

from __future__ import annotations

import contextlib
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
from multiprocessing.connection import Connection, wait
from pathlib import Path

from PIL import Image

from src.configs.errors import InputError
from src.deploy.server import log
from src.deploy.server.flags import SHARED, TOKEN, ServeFlags, require_token
from src.deploy.server.listener import let_no_more_in, open_listener
from src.deploy.server.signals import ending_signals
from src.inference.exported import certificate_of, is_export
from src.runs.exports import is_stale, weights_of
from src.terminal import console

FAILED = 2
"""Exit code where the user can put something right."""


def serve(flags: ServeFlags) -> int:
    """Serve until a signal; return the exit code.

    Raises:
        InputError: no such export, port or address, or the export does not answer as certified.
    """
    if flags.token is None and (token := os.environ.get(TOKEN)) is not None:
        require_token(token, TOKEN)
        flags = replace(flags, token=token)
    flags = replace(flags, export=export_of(flags.export))
    with open_listener(flags.host, flags.port) as listener:
        host, port = listener.getsockname()[:2]
        at = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        console.line("serving", f"{flags.export}")
        console.line("address", f"{at}   API: {at}/docs   stop: Ctrl-C, or SIGTERM to {os.getpid()}")
        return run(flags, listener, say_ready) if flags.workers == 1 else run_several(flags, listener)


def say_ready(proved: int) -> None:
    """Print what was proved at the start."""
    if proved:
        console.line("ready", f"{proved} worked example{'s' * (proved > 1)} came out as certified")
    else:
        console.line("NOTE", "ready, but nothing was proved: the export has no worked examples (export.py --examples)")


def export_of(path: Path) -> Path:
    """Return the export of a path: itself, or that of a run, which is made where there is none of its weights."""
    if is_export(path):
        return path
    if not (path / "run.json").is_file():
        raise InputError(f"{path}: neither an export nor a run. Name runs/<Experiment>/<id> or its export/onnx.")
    if is_export(folder := path / "export" / "onnx"):
        if not is_stale(weights_of(path), certificate_of(folder)):
            return folder
        console.line("NOTE", f"{folder}: of earlier weights of this run, so it is exported again")
    from src.deploy.export import export  # the one place that needs torch

    return export(path)


def run(flags: ServeFlags, listener: socket.socket, on_ready: Callable[[int], object]) -> int:
    """Serve in this process; return the exit code.

    Args:
        flags: of serve.py.
        listener: at which to accept.
        on_ready: is told how many worked examples came out as certified.

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
    service = Service(flags, on_ready)
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

    A process that dies is replaced. One that fails before it is ready ends all.

    Raises:
        InputError: the export does not answer as certified.
    """
    log.set_up()
    stop = threading.Event()
    for number in ending_signals():
        signal.signal(number, lambda *_: stop.set())
    shared = os.environ[SHARED] = tempfile.mkdtemp(prefix="leyden-metrics-")
    try:
        return _supervise(lambda: Worker(flags, listener), flags.workers, stop, listener, flags.drain)
    finally:
        shutil.rmtree(shared, ignore_errors=True)


class Worker:
    """One process of several.

    Args:
        flags: of serve.py.
        listener: at which it accepts.
    """

    proved: int | None = None
    """Once it is ready: how many worked examples came out as certified."""

    def __init__(self, flags: ServeFlags, listener: socket.socket) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.said, say = spawn.Pipe(duplex=False)
        self.process = spawn.Process(target=_work, args=(flags, listener, say))
        self.began = time.monotonic()
        self.process.start()
        say.close()

    def listen(self) -> None:
        """Take note of what the process has said.

        Raises:
            InputError: why it cannot be ready.
        """
        if self.proved is not None or not self.said.poll():
            return
        with contextlib.suppress(EOFError):  # it ended without a word
            match self.said.recv():
                case int(proved):
                    self.proved = proved
                case why:
                    raise InputError(why)

    def log_end(self) -> None:
        lived = round(time.monotonic() - self.began, 1)
        fields = {"pid": self.process.pid, "exit_code": self.process.exitcode, "lived_s": lived}
        logging.getLogger("leyden.server").error("process ended", extra={"fields": fields})


def _supervise(
    start: Callable[[], Worker], count: int, stop: threading.Event, listener: socket.socket, drain: float
) -> int:
    workers = [start() for _ in range(count)]
    said_ready = False
    try:
        while not stop.is_set():
            wait([worker.process.sentinel for worker in workers], timeout=0.1)
            ended = [worker for worker in workers if not worker.process.is_alive()]
            for worker in workers:
                worker.listen()
            for worker in [] if stop.is_set() else ended:
                worker.log_end()
                if worker.proved is None and (code := worker.process.exitcode or 0) > 0:
                    return code
                _forget(worker)
                workers[workers.index(worker)] = start()
            proved = [worker.proved for worker in workers if worker.proved is not None]
            if not said_ready and len(proved) == count:
                say_ready(proved[0])
                said_ready = True
    finally:
        _end(workers, listener, drain)
    return 0


def _forget(worker: Worker) -> None:
    """Let the metrics no longer count what a process that has ended was doing."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.process.pid)
    worker.said.close()


def _end(workers: list[Worker], listener: socket.socket, drain: float) -> None:
    let_no_more_in(listener)
    listener.close()  # before they close theirs: the kernel would hold connections that nobody accepts
    for worker in workers:
        worker.process.terminate()
    end = time.monotonic() + drain + 1
    for worker in workers:
        worker.process.join(max(0.0, end - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _work(flags: ServeFlags, listener: socket.socket, say: Connection) -> None:
    """Serve as one process of several; end in order when the first one is gone."""
    import fcntl  # Windows, where processes share no socket, has none

    parent = multiprocessing.parent_process()
    assert parent is not None
    shared = os.open(os.environ[SHARED], os.O_RDONLY)
    fcntl.flock(shared, fcntl.LOCK_SH)

    def outlive() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until the server takes it: what follows is done
    threading.Thread(target=outlive, daemon=True).start()
    try:
        code = run(flags, listener, say.send)
    except InputError as error:
        say.send(str(error))
        code = FAILED
    finally:
        if not parent.is_alive():
            with contextlib.suppress(BlockingIOError):  # others still count there
                fcntl.flock(shared, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(os.environ[SHARED], ignore_errors=True)
    raise SystemExit(code)
