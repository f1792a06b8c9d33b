"""A real Slurm of two nodes on this machine: `make test-cluster` installs it and runs these."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from src.runs import records

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = Path(__file__).with_name("slurm.sh")
TARGET = "experiments/tables.py:TableRegression"
SMALL = ("--target", "price", "--batch-size", "8", "--patience", "None", "--logger", "csv", "--accelerator", "cpu")
TWO = ("--nodes", "2", "--tasks-per-node", "1", "--cpus-per-task", "1", "--sbatch=--overcommit")

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not shutil.which("slurmctld") or os.geteuid() != 0, reason="no Slurm here, or not root"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run([CLUSTER, "up", folder], check=True)
    yield folder
    subprocess.run([CLUSTER, "down", folder], check=True)


@pytest.fixture
def slurm(cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The cluster, without jobs, and with runs in a folder of the test's own."""
    monkeypatch.setenv("SLURM_CONF", str(cluster / "slurm.conf"))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")  # the nodes' names are known to Slurm alone
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield cluster
    subprocess.run(["scancel", "--user", "root"], check=False)
    wait(lambda: not queue(), 60)


def queue() -> list[str]:
    done = subprocess.run(["squeue", "--noheader", "--format=%i %T %r"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def wait(until: Callable[[], Any], seconds: float = 240.0) -> Any:
    """Return what a function returns once it is true."""
    end = time.monotonic() + seconds
    while not (found := until()):
        assert time.monotonic() < end, (queue(), outputs())
        time.sleep(0.2)
    return found


def outputs() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(records.runs_dir().glob("slurm/*.out")))


def launch(*words: str | Path) -> str:
    """Submit a run, and return the job's number."""
    command = [sys.executable, "scripts/launch.py", "slurm", TARGET, *SMALL, *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = re.search(r"Submitted batch job (\d+)", done.stdout)
    assert found, done.stdout
    return found[1]


def go_on(job: str) -> None:
    """Have a requeued job start now; Slurm would wait two minutes."""
    wait(lambda: any(line.startswith(f"{job} PENDING") for line in queue()))
    time.sleep(3)  # what Slurm has revoked of its last start must not be of the same second
    wait(lambda: subprocess.run(["scontrol", "update", f"job={job}", "StartTime=now"], check=False).returncode == 0)


def runs() -> list[tuple[Path, dict[str, Any]]]:
    found = sorted(records.runs_dir().glob("*/*/run.json"))
    return [(path.parent, json.loads(path.read_text(encoding="utf-8"))) for path in found]


def finished() -> tuple[Path, dict[str, Any]]:
    """Wait for the queue to be empty, and return the one run there is."""
    wait(lambda: not queue())
    ((run, record),) = runs()
    assert record["state"] == "done", outputs()
    return run, record


def has_saved() -> bool:
    return any(records.runs_dir().glob("*/*/checkpoints/last.ckpt"))


def each_validation_once(run: Path, epochs: int) -> None:
    found = [epoch for epoch, _, name, _ in records.metrics(run) if name == "val/rmse"]
    assert found == list(range(1, epochs + 1))


def test_srun_of_two_nodes(slurm: Path, houses: Path) -> None:
    words = ("--data-dir", houses, "--max-epochs", "3", "--num-nodes", "2", "--devices", "1")
    command = ["srun", "--nodes", "2", "--ntasks-per-node", "1", sys.executable, "scripts/run.py", TARGET, *SMALL]
    done = subprocess.run([*command, *map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ((run, record),) = runs()
    assert (record["state"], record["device"]) == ("done", "cpu x 2")
    each_validation_once(run, 3)


def test_a_batch_of_seeds(slurm: Path, houses: Path) -> None:
    launch("--data-dir", houses, "--max-epochs", "3", "--seeds", "3", "5", "--cpus-per-task", "1")
    wait(lambda: not queue())
    assert sorted((record["seed"], record["state"]) for _, record in runs()) == [(3, "done"), (5, "done")], outputs()


def test_time_that_is_over(slurm: Path, houses: Path) -> None:
    """SIGUSR1, as Slurm sends it: the run saves, the job is requeued, and the run goes on."""
    job = launch("--data-dir", houses, "--max-epochs", "300", "--checkpoint-every", "2", *TWO)
    wait(has_saved)
    subprocess.run(["scancel", "--signal=USR1", job], check=True)
    go_on(job)
    run, record = finished()
    assert "SIGUSR1: stopping after this step" in outputs()
    assert f"go on with {run}" in outputs()
    assert record["device"] == "cpu x 2"
    each_validation_once(run, 300)


def test_preemption(slurm: Path, houses: Path) -> None:
    job = launch("--data-dir", houses, "--max-epochs", "300", "--checkpoint-every", "2", *TWO)
    wait(has_saved)
    subprocess.run(["srun", "--partition", "urgent", "--nodes", "2", "--exclusive", "true"], check=True)
    go_on(job)
    run, _ = finished()
    assert "SIGTERM: stopping after this step" in outputs()
    each_validation_once(run, 300)


def test_a_node_that_dies(slurm: Path, houses: Path) -> None:
    job = launch("--data-dir", houses, "--max-epochs", "300", "--checkpoint-every", "2", *TWO)
    wait(has_saved)
    daemon = int((slurm / "slurmd.node2.pid").read_text(encoding="utf-8"))
    tasks = [pid for pid in processes() if environment(pid).get("SLURMD_NODENAME") == "node2"]
    steps = [psutil.Process(pid).ppid() for pid in tasks]  # they would tell the job
    for pid in (daemon, *steps, *tasks):
        os.kill(pid, signal.SIGKILL)
    wait(lambda: any(line.startswith(f"{job} PENDING") for line in queue()))
    subprocess.run(["slurmd", "-N", "node2"], check=True)
    go_on(job)
    run, _ = finished()
    assert f"go on with {run}" in outputs()
    each_validation_once(run, 300)


def processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def environment(pid: int) -> dict[str, str]:
    try:
        text = (Path("/proc") / str(pid) / "environ").read_bytes().decode(errors="replace")
    except OSError:
        return {}
    return dict(part.split("=", 1) for part in text.split("\0") if "=" in part)
