"""Commands in processes that need not import torch again: forked off one that has, and has run nothing since.

Each is a process of its own, with its own directory, environment, arguments, streams, signals and exit code, and ends
as any Python does. For each set of variables that an interpreter reads at its start (`AT_START`) there is a server. Its
seed of hashes is that of its commands, and what is in `IMPORTED` is there from the beginning. Tests of these, and of a
real terminal, start a fresh interpreter.
Modules of this checkout are never imported before a command.
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
AT_START = re.compile("PYTHON(?!PATH)|L(ANG|C_)|OMP_|OPENBLAS|MKL|MALLOC|GLIBC|HF_|MPL|TORCH_|CUDA|(LOCAL_)?RANK|SLURM")
"""Variables that an interpreter, or what it imports, reads but once: Lightning the rank, for one."""
IMPORTED = (
    *("cv2", "datasets", "iterstrat.ml_stratifiers", "lightning.pytorch", "matplotlib.pyplot", "pandas", "psutil"),
    *("sklearn.datasets", "sklearn.linear_model", "tensorboard.plugins.hparams.summary_v2", "timm", "torchmetrics"),
    *("torch.utils.tensorboard", "torchvision.transforms.v2", "transformers.models.bert.modeling_bert", "tyro"),
)
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""Where nothing else is said, as `make test` does."""


class Process:
    """A command that runs, as `subprocess.Popen` is with its output as text in pipes."""

    def __init__(self, args: Sequence[str], connection: socket.socket, streams: Sequence[IO[str]]) -> None:
        self.args, self.connection, self.streams = args, connection, streams
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

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait as above, and return what it wrote to standard output and to standard error, once."""
        self.wait(timeout)
        for stream in self.streams:
            stream.seek(0)
        out, err = (stream.read() for stream in self.streams)
        self.kill()
        return out, err

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it, if it has not, and close its streams."""
        self.send_signal(signal.SIGKILL)
        self.wait()
        for stream in self.streams:
            stream.close()


@functools.cache
def server(at_start: frozenset[tuple[str, str]]) -> socket.socket:
    """Return what takes requests of commands that start with these variables. It ends with this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    others = {name: value for name, value in os.environ.items() if name != "PYTHONPATH" and not AT_START.match(name)}
    environment = others | dict(at_start)
    words = [sys.executable, __file__, str(theirs.fileno())]
    started = subprocess.Popen(
        words, env=environment, pass_fds=[theirs.fileno()], start_new_session=True, stdin=subprocess.DEVNULL
    )
    theirs.close()
    atexit.register(lambda: (ours.shutdown(socket.SHUT_RDWR), ours.close(), started.wait()))
    return ours


def start(args: Sequence[str | Path], *, stdin: str = "", **environment: str) -> Process:
    """Start a script with its arguments, and this process's environment with what is named, in the checkout.

    Args:
        args: path of the script, and what follows it.
        stdin: what it reads from a pipe, less than a pipe holds.
        environment: name -> value.
    """
    wanted = ONE_THREAD | os.environ | environment
    channel = server(frozenset((name, value) for name, value in wanted.items() if AT_START.match(name)))
    words, (ours, theirs) = [*map(str, args)], socket.socketpair()
    pipes = [tempfile.TemporaryFile("w+", encoding="utf-8") for _ in range(2)]  # noqa: SIM115
    inner, outer = os.pipe()
    os.write(outer, stdin.encode())
    os.close(outer)
    with theirs, open(inner, encoding="utf-8") as given_in:
        files = [given_in.fileno(), *(pipe.fileno() for pipe in pipes)]
        request = json.dumps([words, str(ROOT), wanted]).encode()
        socket.send_fds(channel, [request], [theirs.fileno(), *files])
    return Process(words, ours, pipes)


def run(args: Sequence[str | Path], *, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script to its end, as `subprocess.run` does; see `start`."""
    process = start(args, stdin=stdin, **environment)
    try:
        said = process.communicate(timeout=300)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.wait(), *said)


def given(text: str) -> str:
    """Return an argument or a variable as this interpreter would have read it: its locale may know ASCII alone."""
    return os.fsdecode(text.encode("utf-8", "surrogateescape"))


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
    words, folder, variables = json.loads(request)
    sys.argv = [given(word) for word in words]
    environment = {name: given(value) for name, value in variables.items()}
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    paths = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:1] = [str(Path(sys.argv[0]).resolve().parent), *paths]


if __name__ == "__main__":
    import numpy as np

    serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_path(sys.argv[0], run_name="__main__")
