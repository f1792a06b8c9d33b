"""The server beside plain FastAPI and LitServe, with the same export, in turns; and a soak.

python benchmarks/serving.py runs/<Experiment>/<id>/export/onnx [--seconds 5] [--rounds 3] [--connections 32]
python benchmarks/serving.py EXPORT --soak 600

Each contender answers single inputs over HTTP, in a process of its own (LitServe in several), one thread for
onnxruntime. All clients wait for their answer before they ask again. A core is a second of processor time, of all its
processes; memory is of all of them too. FastAPI and LitServe predict with the same code as the server, as their
tutorials have it: a function of one request.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import aiohttp
import litserve as ls  # pyright: ignore[reportMissingImports]
import numpy as np
import psutil
import tyro
import uvicorn
from fastapi import FastAPI, Request  # pyright: ignore[reportMissingImports]

from src.inference import exported

SHARE = 0.8
"""Of the most requests a second, in a soak."""


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
class Contender:
    """A server that runs."""

    name: str
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
def running(name: str, folder: Path) -> Any:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = [sys.executable, str(Path(__file__).resolve()), str(folder), "--contender", name, "--port", str(port)]
    serve = str(Path(__file__).resolve().parents[1] / "scripts" / "serve.py")
    ours = [sys.executable, serve, str(folder), "--port", str(port)]
    process = subprocess.Popen(
        ours if name == "leyden" else own,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    found = Contender(name, psutil.Process(process.pid), port)
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


async def load(port: int, bodies: list[bytes], kind: str, connections: int, seconds: float, rate: float = 0) -> Load:
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
                due += connections / rate
            sent = time.perf_counter()
            try:
                async with session.post(url, data=bodies[number % len(bodies)], headers=headers) as reply:
                    await reply.read()
                    failed += reply.status != 200
            except aiohttp.ClientError:
                failed += 1
            latencies.append(time.perf_counter() - sent)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(ask(number) for number in range(connections)))
    return Load(time.perf_counter() - began, latencies, failed)


def inputs_of(folder: Path) -> tuple[list[bytes], str]:
    """Return the worked examples as bodies, and their content type."""
    given = [one["input"] for one in json.loads((folder / "examples" / "examples.json").read_text("utf-8"))["examples"]]
    if exported.load(folder).kind == "image":
        return [(folder / "examples" / name).read_bytes() for name in given], "image/png"
    return [json.dumps(one).encode() for one in given], "application/json"


def for_litserve(bodies: list[bytes], kind: str) -> tuple[list[bytes], str]:
    """Return bodies as LitServe takes them: it knows no raw images."""
    if kind == "application/json":
        return bodies, kind
    return [json.dumps({"image": base64.b64encode(one).decode()}).encode() for one in bodies], "application/json"


def alone(folder: Path, bodies: list[bytes], seconds: float) -> dict[str, float]:
    """Return how many inputs a second onnxruntime alone runs, in batches of 1, and with the preparation before it."""
    made = exported.load(folder, threads=1)
    raw: Any = bodies[0] if made.kind == "image" else json.loads(bodies[0])
    arrays = next(iter(made.batches(made.read([raw], [])))).arrays
    found: dict[str, float] = {}
    for name, do in (("onnxruntime", lambda: made.network(arrays)), ("whole prediction", lambda: made.predict([raw]))):
        do()
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            do()
            count += 1
        found[name] = count / (time.perf_counter() - began)
    return found


def main(
    export: Annotated[Path, tyro.conf.Positional],
    seconds: float = 5,
    rounds: int = 3,
    connections: int = 32,
    soak: float = 0,
    contender: str = "",
    port: int = 0,
) -> None:
    """Compare servers of an export, or soak the own one."""
    if contender:
        return {"fastapi": fastapi, "litserve": litserve}[contender](export, port)
    bodies, kind = inputs_of(export)
    if soak:
        return soaked(export, bodies, kind, connections, soak)
    for name, rate in alone(export, bodies, seconds).items():
        print(f"{name + ', no server':<28} {rate:9.1f} a second")
    found: dict[str, list[tuple[float, float, Load, float]]] = {}
    for _ in range(rounds):
        for name in ("leyden", "fastapi", "litserve"):
            with running(name, export) as one:
                sent = for_litserve(bodies, kind) if name == "litserve" else (bodies, kind)
                asyncio.run(load(one.port, *sent, connections, seconds / 4))
                before = one.cpu
                said = asyncio.run(load(one.port, *sent, connections, seconds))
                cores = (one.cpu - before) / said.seconds
                found.setdefault(name, []).append((said.rate, said.rate / cores, said, one.memory))
    for name, turns in found.items():
        rates, by_core, loads, memories = zip(*turns, strict=True)
        rate, per_core, memory = (statistics.median(one) for one in (rates, by_core, memories))
        p50, p99 = np.percentile([s for one in loads for s in one.latencies], [50, 99]) * 1e3
        failed = sum(one.failed for one in loads)
        print(
            f"{name:<10} {rate:8.1f} a second {per_core:8.1f} a core   p50 {p50:7.1f} ms  p99 {p99:7.1f} ms  "
            f"{memory:6.0f} MB  {failed} failed"
        )
    return None


def soaked(export: Path, bodies: list[bytes], kind: str, connections: int, seconds: float) -> None:
    """Ask at 80 % of the most for so long, and print memory and failures."""
    with running("leyden", export) as one:
        most = asyncio.run(load(one.port, bodies, kind, connections, 5)).rate
        failed, asked = 0, 0
        for part in range(10):
            said = asyncio.run(load(one.port, bodies, kind, connections, seconds / 10, SHARE * most))
            failed, asked = failed + said.failed, asked + len(said.latencies)
            p50, p99 = np.percentile(said.latencies, [50, 99]) * 1e3
            print(
                f"{(part + 1) * seconds / 10:6.0f} s  {said.rate:7.1f} of {most:.1f} a second  p50 {p50:6.1f} ms  "
                f"p99 {p99:6.1f} ms  {one.memory:6.1f} MB  {failed} of {asked} failed",
                flush=True,
            )


if __name__ == "__main__":
    tyro.cli(main)
