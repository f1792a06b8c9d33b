"""Commands in processes that need not import torch again: forked off one that has, and has run nothing since.

Each is a process of its own, with its own directory, environment, arguments, streams, signals and exit code, and ends
as any Python does. What an interpreter reads at its start is the server's (`AT_START`), and so is the seed of hashes;
what is in `IMPORTED` is there from the beginning. Tests of these start a fresh interpreter. Modules of this checkout
are never imported before a command.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import re
import runpy
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[1]
AT_START = re.compile("PYTHON(?!PATH)|L(ANG|C_|D_)|OMP_|OPENBLAS|MKL|MALLOC|GLIBC|HF_|MPL|TORCH|CUDA")
"""Variables that an interpreter, or what it imports, reads but once."""
IMPORTED = (
    *("cv2", "datasets", "iterstrat.ml_stratifiers", "lightning.pytorch", "matplotlib.pyplot", "pandas", "psutil"),
    *("sklearn.datasets", "sklearn.linear_model", "tensorboard.plugins.hparams.summary_v2", "timm", "torchmetrics"),
    *("torch.utils.tensorboard", "torchvision.transforms.v2", "transformers.models.bert.modeling_bert", "tyro"),
)


class Process:
    """A command that runs, as `subprocess.Popen` is."""

    def __init__(self, args: Sequence[str], connection: socket.socket) -> None:
        self.args, self.connection = args, connection
        (self.pid,) = struct.unpack("i", connection.recv(4))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code, or minus the signal that ended it; raise TimeoutExpired after so many seconds."""
        if self.returncode is None:
            self.connection.settimeout(timeout)
            try:
                (status,) = struct.unpack("i", self.connection.recv(4))
            except (BlockingIOError, TimeoutError) as error:
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from error
            self.connection.close()
            self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


@functools.cache
def server() -> tuple[socket.socket, dict[str, str]]:
    """Return what takes requests, and the variables that it was started with. It ends with this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [sys.executable, __file__, str(theirs.fileno())]
    started = subprocess.Popen(
        words, env=environment, pass_fds=[theirs.fileno()], start_new_session=True, stdin=subprocess.DEVNULL
    )
    theirs.close()
    atexit.register(lambda: (ours.close(), started.wait()))
    return ours, environment


def start(
    args: Sequence[str | Path], *, stdout: IO[str], stderr: IO[str], cwd: Path = ROOT, **environment: str
) -> Process:
    """Start a script with its arguments, and this process's environment with what is named.

    Raises:
        ValueError: a variable has another value than the server's, and would be read at the start of an interpreter.
    """
    channel, before = server()
    wanted = os.environ | environment
    for name in before.keys() | wanted.keys():
        if AT_START.match(name) and before.get(name) != wanted.get(name):
            raise ValueError(f"{name}={wanted.get(name)}: only a fresh interpreter reads it")
    words = [*map(str, args)]
    ours, theirs = socket.socketpair()
    with theirs, open(os.devnull, encoding="utf-8") as nothing:
        files = [theirs.fileno(), nothing.fileno(), stdout.fileno(), stderr.fileno()]
        socket.send_fds(channel, [json.dumps([words, str(cwd), dict(wanted)]).encode()], files)
    return Process(words, ours)


def run(args: Sequence[str | Path], *, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script to its end, as `subprocess.run` does."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out, tempfile.TemporaryFile("w+", encoding="utf-8") as err:
        process = start(args, stdout=out, stderr=err, **environment)
        try:
            process.wait(timeout)
        finally:
            process.send_signal(signal.SIGKILL)
        for stream in (out, err):
            stream.seek(0)
        return subprocess.CompletedProcess(process.args, process.wait(), out.read(), err.read())


def serve(channel: socket.socket) -> None:
    """Have each request's command run in a fork of a fork, which awaits its end and tells; return in the command."""
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()  # so that collecting rubbish copies none of it
    while True:
        request, files, *_ = socket.recv_fds(channel, 2**18, 4)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG if request else 0)[0]:
                pass
        if not request:
            sys.exit()
        if not os.fork():
            break
        for file in files:
            os.close(file)
    channel.close()
    reply = socket.socket(fileno=files[0])
    if pid := os.fork():
        reply.send(struct.pack("i", pid))
        for file in files[1:]:
            os.close(file)
        reply.send(struct.pack("i", os.waitpid(pid, 0)[1]))
        os._exit(0)
    reply.close()
    for number, file in enumerate(files[1:]):
        os.dup2(file, number)
        os.close(file)
    sys.stdout.reconfigure(line_buffering=False)  # pyright: ignore[reportAttributeAccessIssue]
    np.random.seed()
    sys.argv, folder, environment = json.loads(request)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    paths = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:1] = [str(Path(sys.argv[0]).resolve().parent), *paths]


if __name__ == "__main__":
    import numpy as np

    serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_path(sys.argv[0], run_name="__main__")
