"""torchrun's two agents in two network namespaces, as on two machines: needs root and `ip`; `make test-cluster`."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from src.launch.local import FRESH_STORE
from src.runs import records

ROOT = Path(__file__).resolve().parents[2]
SPACES = ("leyden0", "leyden1")
CPU = ("--accelerator", "cpu", "--logger", "csv", "--patience", "None")
TABLES = ("experiments/tables.py:TableRegression", "--target", "price", "--mlp.dropout", "0")
EXPERIMENTS = {
    "pictures": ("experiments/digits.py:SoftmaxRegression", "--source", "sklearn"),
    "texts": (
        *("experiments/texts.py:TextsLstm", "--lstm.embedding-dropout", "0", "--lstm.dropout", "0"),
        *("--lstm.word-dropout", "0"),
    ),
    "tables": TABLES,
}
ROUNDING = 1e-4
"""Relative difference of metrics: gradients of two halves of a batch are added in another order."""

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not shutil.which("ip") or os.geteuid() != 0, reason="no `ip` here, or not root"),
]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@pytest.fixture(scope="module")
def machines() -> Iterator[None]:
    """Two network namespaces, joined by a pair of virtual devices, with the addresses 10.77.0.1 and 10.77.0.2."""
    for space in SPACES:
        subprocess.run(["ip", "netns", "delete", space], check=False, capture_output=True)
        ip("netns", "add", space)
        ip("-n", space, "link", "set", "lo", "up")
    ip("link", "add", "leyden-a", "netns", SPACES[0], "type", "veth", "peer", "name", "leyden-b", "netns", SPACES[1])
    for number, (space, device) in enumerate(zip(SPACES, ("leyden-a", "leyden-b"), strict=True), 1):
        ip("-n", space, "address", "add", f"10.77.0.{number}/24", "dev", device)
        ip("-n", space, "link", "set", device, "up")
    yield
    for space in SPACES:
        ip("netns", "delete", space)


def agent(number: int, *words: str | Path, restarts: int = 0) -> subprocess.Popen[str]:
    """Start one machine's agent of torchrun, with one process; both machines have the same host name."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    torchrun += ["--rdzv-backend=c10d", "--rdzv-endpoint=10.77.0.1:29500", f"--rdzv-conf=is_host={1 - number}"]
    torchrun += [f"--local-addr=10.77.0.{number + 1}"]
    command = [*torchrun, f"--max-restarts={restarts}", "scripts/run.py", *map(str, words)]
    return subprocess.Popen(
        ["ip", "netns", "exec", SPACES[number], *command, "--num-nodes=2", "--devices=1"],
        cwd=ROOT,
        env=os.environ | FRESH_STORE | {"GLOO_SOCKET_IFNAME": f"leyden-{'ab'[number]}", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end(agents: list[subprocess.Popen[str]]) -> list[str]:
    try:
        return [one.communicate(timeout=280)[0] for one in agents]
    finally:
        for one in agents:
            one.kill()


def only_run(folder: Path) -> tuple[Path, dict[str, Any]]:
    (path,) = folder.glob("*/*/run.json")
    return path.parent, json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", EXPERIMENTS)
def test_two_machines_are_one_and_one_process_with_twice_the_batch(
    kind: str, machines: None, houses: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"pictures": (), "texts": ("--data-dir", texts), "tables": ("--data-dir", houses)}[kind]
    words = (*EXPERIMENTS[kind], *CPU, *data, "--max-epochs", "3", "--test")
    found: dict[str, dict[str, Any]] = {}
    for where in ("two machines", "two processes", "one process"):
        monkeypatch.setenv("LEYDEN_RUNS", str(tmp_path / where))
        if where == "two machines":
            agents = [agent(number, *words, "--batch-size", "8") for number in range(2)]
            said = end(agents)
            assert all(one.returncode == 0 for one in agents), said
        else:
            devices, batch = ("2", "8") if where == "two processes" else ("1", "16")
            command = [sys.executable, "scripts/run.py", *words, "--devices", devices, "--batch-size", batch]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            done = subprocess.run(
                list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
        _, found[where] = only_run(tmp_path / where)
    metrics = {where: record["metrics"] for where, record in found.items()}
    assert metrics["two machines"] == metrics["two processes"]
    assert metrics["two machines"] == pytest.approx(metrics["one process"], rel=ROUNDING)


@pytest.mark.parametrize("victim", ["worker", "agent"])
def test_what_is_killed_is_started_again_and_the_run_goes_on(
    victim: str, machines: None, houses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five kills of either kind; the run has each validation once. The agent that holds the rendezvous cannot be
    replaced: all end with it.
    """
    rng = random.Random(victim)
    monkeypatch.setenv("LEYDEN_RUNS", str(tmp_path / "runs"))
    words = (*TABLES, *CPU, "--data-dir", houses, "--batch-size", "8", "--max-epochs", "400", "--checkpoint-every", "2")
    agents = [agent(number, *words, restarts=100) for number in range(2)]
    said: list[str] = []
    for kill in range(5):
        progress(tmp_path / "runs", beyond=20 * (kill + 1))
        time.sleep(rng.uniform(0, 1))
        number = rng.randrange(2) if victim == "worker" else 1
        workers = children(agents[number].pid)
        if victim == "worker":
            os.kill(rng.choice(workers), signal.SIGKILL)
        else:
            agents[number].kill()
            for worker in workers:
                os.kill(worker, signal.SIGKILL)
            said += [agents[number].communicate()[0]]
            agents[number] = agent(number, *words, restarts=100)
    said += end(agents)
    assert all(one.returncode == 0 for one in agents), said
    run, record = only_run(tmp_path / "runs")
    assert record["state"] == "done"
    epochs = [epoch for epoch, _, name, _ in records.metrics(run) if name == "val/rmse"]
    assert epochs == list(range(1, 401))


def progress(runs: Path, beyond: int) -> None:
    """Wait until the run has validated in so many epochs."""
    until = time.monotonic() + 240
    while True:
        epochs = [epoch for run in runs.glob("*/*") for epoch, _, name, _ in records.metrics(run) if name == "val/rmse"]
        if epochs and epochs[-1] >= beyond:
            return
        assert time.monotonic() < until, f"epoch {epochs[-1:]} of {beyond}"
        time.sleep(0.1)


def children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in path.read_text(encoding="utf-8").split()]
