"""The server beside plain FastAPI and LitServe, with the same export, in turns; and a soak.

    python benchmarks/serving.py rows --rounds 5
    python benchmarks/serving.py pictures
    python benchmarks/serving.py soak  # rows for ten minutes, at 80 % of the most

Each contender answers single inputs over HTTP, in a process of its own (LitServe in several), one thread for
onnxruntime. 32 clients wait for their answer before they ask again; they share the machine. A core is a second of
processor time, of all processes of a server; memory is of all of them too. FastAPI and LitServe predict with the same
code as the server, as their tutorials have it: a function of one request. onnxruntime alone runs prepared inputs, one
at a time.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import aiohttp
import litserve as ls  # pyright: ignore[reportMissingImports]
import numpy as np
import psutil
import uvicorn
from fastapi import FastAPI, Request  # pyright: ignore[reportMissingImports]

from benchmarks import report
from benchmarks.exports import FAMILIES, in_a_process, make
from benchmarks.pictures import photographs
from benchmarks.turns import Contender
from experiments.cats_dogs_finetune import CatsDogsFinetune
from experiments.house_prices import HousePricesMLP
from src.inference import exported

ROOT = Path(__file__).resolve().parents[1]
CLIENTS = 32
SECONDS = 5.0
"""Of a turn, after a quarter as many to warm up."""
SOAK, SHARE = 600.0, 0.8
"""Seconds of a soak, and its part of the most requests a second."""
KINDS = {"rows": HousePricesMLP, "pictures": CatsDogsFinetune, "soak": HousePricesMLP}
"""Job -> experiment that is served."""
A_CORE, ALL_CORES = ("a core", "requests/s"), ("all cores, with the clients", "requests/s")
MARKS = {
    ("rows", A_CORE): {"FastAPI": 2.5, "LitServe": 5.0},
    ("pictures", A_CORE): {"onnxruntime alone": 0.9},
    ("pictures", ALL_CORES): {"onnxruntime alone": 0.9},
}
"""Job and figure -> contender -> how many times as many requests are asked of Leyden."""


def fastapi(folder: Path, port: int) -> None:
    """Serve as FastAPI's tutorial does."""
    made, app = exported.load(folder, threads=1), FastAPI()

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        body: Any = await request.body()
        found = made.predict([body if made.kind == "image" else json.loads(body)])
        return {name: cells[0] for name, cells in found.columns.items()}

    uvicorn.run(app, port=port, access_log=False, log_level="warning")


class Api(ls.LitAPI):
    """What LitServe asks for; at the top of the module, since its processes pickle it."""

    folder = Path()

    def setup(self, device: str) -> None:
        self.made = exported.load(self.folder, threads=1)

    # an annotation would make FastAPI look for the request in the query
    def decode_request(self, request):  # pyright: ignore[reportIncompatibleMethodOverride]
        return base64.b64decode(request["image"]) if self.made.kind == "image" else request

    def predict(self, x: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return {name: cells[0] for name, cells in self.made.predict([x]).columns.items()}

    def encode_response(self, output: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return output


def litserve(folder: Path, port: int) -> None:
    """Serve as LitServe's tutorial does."""
    api = Api()
    api.folder = folder
    ls.LitServer(api, accelerator="cpu", workers_per_device=1).run(
        port=port, generate_client_file=False, log_level="warning"
    )


@dataclass
class Server:
    """A server that runs."""

    process: psutil.Process
    port: int

    def all(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    @property
    def cpu(self) -> float:
        return sum(sum(one.cpu_times()[:2]) for one in self.all())

    @property
    def memory(self) -> float:
        return sum(one.memory_info().rss for one in self.all()) / 1e6


@contextmanager
def running(name: str, folder: Path) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    if name == "Leyden":
        words = [ROOT / "scripts" / "serve.py", folder, "--port", str(port)]
    else:
        code = "import sys; from pathlib import Path; from benchmarks import serving;"
        code += f"serving.{name.lower()}(Path(sys.argv[1]), int(sys.argv[2]))"
        words = ["-c", code, folder, str(port)]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path},
    )
    found = Server(psutil.Process(process.pid), port)
    try:
        asyncio.run(until_answered(port))
        yield found
    finally:
        for one in found.all():
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()


async def until_answered(port: int) -> None:
    for _ in range(600):
        with suppress(aiohttp.ClientError):
            async with aiohttp.ClientSession() as session:
                path = f"http://127.0.0.1:{port}/predict"
                async with session.post(path, data=b"{}", headers={"content-type": "application/json"}) as reply:
                    if reply.status not in (503, 404):
                        return
        await asyncio.sleep(0.1)
    raise SystemExit(f"port {port}: no answer")


@dataclass
class Load:
    """What came of a load."""

    seconds: float
    latencies: list[float]
    failed: int

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds


async def load(port: int, bodies: list[bytes], kind: str, seconds: float, rate: float = 0) -> Load:
    """Ask for so many seconds; `rate` requests a second, or as many as are answered."""
    url, headers = f"http://127.0.0.1:{port}/predict", {"content-type": kind}
    latencies: list[float] = []
    failed, began = 0, time.perf_counter()
    end = began + seconds

    async def ask(number: int) -> None:
        nonlocal failed
        due = began + number / rate if rate else began
        while time.perf_counter() < end:
            if rate:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                due += CLIENTS / rate
            sent = time.perf_counter()
            try:
                async with session.post(url, data=bodies[number % len(bodies)], headers=headers) as reply:
                    await reply.read()
                    failed += reply.status != 200
            except aiohttp.ClientError:
                failed += 1
            latencies.append(time.perf_counter() - sent)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(ask(number) for number in range(CLIENTS)))
    return Load(time.perf_counter() - began, latencies, failed)


def inputs_of(export: Path, folder: Path) -> tuple[list[bytes], str]:
    """Return bodies and their content type: photographs as clients send them, or the worked examples."""
    if files := sorted((folder / "photographs" / "val").rglob("*.jpg")):
        return [file.read_bytes() for file in files], "image/jpeg"
    examples = json.loads((export / "examples" / "examples.json").read_text("utf-8"))["examples"]
    return [json.dumps(one["input"]).encode() for one in examples], "application/json"


def for_litserve(bodies: list[bytes], kind: str) -> tuple[list[bytes], str]:
    """Return bodies as LitServe takes them: it knows no raw images."""
    if kind == "application/json":
        return bodies, kind
    return [json.dumps({"image": base64.b64encode(one).decode()}).encode() for one in bodies], "application/json"


def alone(export: Path, body: bytes) -> tuple[float, float]:
    """Return how many prepared inputs onnxruntime runs, one at a time: a second of processor time, and a second."""
    made = exported.load(export, threads=1)
    raw: Any = body if made.kind == "image" else json.loads(body)
    arrays = next(iter(made.batches(made.read([raw], [])))).arrays
    made.network(arrays)
    used, began, count = time.process_time(), time.perf_counter(), 0
    while (seconds := time.perf_counter() - began) < SECONDS:
        made.network(arrays)
        count += 1
    return count / (time.process_time() - used), count / seconds


def compared(job: str, export: Path, folder: Path, rounds: int) -> list[report.Row]:
    """Let the servers take turns, each started anew; return what they answer a core and together, and how soon."""
    bodies, kind = inputs_of(export, folder)
    figures: dict[tuple[str, str], dict[str, Any]] = defaultdict(lambda: defaultdict(list))
    for _ in range(rounds):
        for what, rate in zip((A_CORE, ALL_CORES), alone(export, bodies[0]), strict=True):
            figures[what]["onnxruntime alone"].append(rate)
        for name in ("Leyden", "FastAPI", "LitServe"):
            sent = for_litserve(bodies, kind) if name == "LitServe" else (bodies, kind)
            with running(name, export) as server:
                asyncio.run(load(server.port, *sent, SECONDS / 4))
                before = server.cpu
                done = asyncio.run(load(server.port, *sent, SECONDS))
                if done.failed:
                    raise RuntimeError(f"{name}: {done.failed} of {len(done.latencies)} requests failed")
                figures[A_CORE][name].append(len(done.latencies) / (server.cpu - before))
                figures[ALL_CORES][name].append(done.rate)
                p50, p99 = np.percentile(done.latencies, [50, 99]) * 1e3
                figures["time to an answer, median", "ms"][name].append(p50)
                figures["time to an answer, 99th percentile", "ms"][name].append(p99)
                figures["memory", "MB"][name].append(server.memory)
    rows: list[report.Row] = []
    for (what, unit), speeds in figures.items():
        marks = MARKS.get((job, (what, unit)), {})
        contenders = [
            Contender(name, lambda _: None, against="" if name == "Leyden" else "Leyden", mark=marks.get(name))
            for name in ("Leyden", "FastAPI", "LitServe", "onnxruntime alone")
            if name in speeds
        ]
        rows += report.rows(f"single {job}, {what}", contenders, speeds, unit)
    return rows


def soak(export: Path, folder: Path) -> None:
    """Ask for a part of the most for long, and print memory and failures."""
    bodies, kind = inputs_of(export, folder)
    with running("Leyden", export) as server:
        most = asyncio.run(load(server.port, bodies, kind, SECONDS)).rate
        failed, asked = 0, 0
        for part in range(1, 11):
            done = asyncio.run(load(server.port, bodies, kind, SOAK / 10, SHARE * most))
            failed, asked = failed + done.failed, asked + len(done.latencies)
            p50, p99 = np.percentile(done.latencies, [50, 99]) * 1e3
            print(
                f"{part * SOAK / 10:6.0f} s  {done.rate:7.1f} of {most:.1f} a second  p50 {p50:6.1f} ms  "
                f"p99 {p99:6.1f} ms  {server.memory:6.1f} MB  {failed} of {asked} failed",
                flush=True,
            )


def main() -> None:
    flags = report.options(__doc__ or "", list(KINDS), rounds=3)
    (family,) = (one for one in FAMILIES if one.kind is KINDS[flags.job])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"LEYDEN_RUNS": str(folder / "runs"), "LEYDEN_CACHE": str(folder / "cache")}
        if flags.job == "pictures":
            photographs(folder / "photographs", train=32, val=16)
        in_a_process(make, family, folder)
        (export,) = folder.glob("runs/*/*/export/onnx")
        if flags.job == "soak":
            soak(export, folder)
        else:
            report.show(compared(flags.job, export, folder, flags.rounds), flags.json)


if __name__ == "__main__":
    main()
