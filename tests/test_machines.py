"""Two machines that share no disk: one run, on the first; and what they refuse to begin with."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import two_processes

from src.runs import records

RUN = two_processes.ROOT / "scripts" / "run.py"
TARGET = f"{two_processes.ROOT / 'experiments' / 'tables.py'}:TableRegression"
FLAGS = ("--target", "price", "--batch-size", "8", "--patience", "None", "--logger", "csv", "--accelerator", "cpu")


def command(data: Path | str, machines: int, *more: str) -> list[str | Path]:
    """Return the command of a run in two processes, on one machine or on two."""
    on = ("--data-dir", data, "--num-nodes", str(machines), "--devices", str(2 // machines))
    return [RUN, TARGET, *FLAGS, "--checkpoint-every", "2", *on, *more]


def logged(run: Path) -> list[tuple[int, int, str, float]]:
    return [row for row in records.metrics(run) if "samples_per_s" not in row[2]]


@pytest.fixture
def machines(houses: Path, tmp_path: Path) -> list[Path]:
    """The folders of two machines, each with its own copy of the data."""
    found = [tmp_path / f"machine-{rank}" for rank in range(2)]
    for folder in found:
        folder.mkdir()
        (folder / "houses.csv").write_bytes(houses.read_bytes())
    return found


def ended(processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    """Wait for processes, and return what they wrote as errors."""
    try:
        return [process.communicate(timeout=280)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()


def only_run(machine: Path) -> tuple[Path, dict[str, Any]]:
    (path,) = machine.glob("runs/*/*/run.json")
    return path.parent, json.loads(path.read_text())


def test_one_run_on_the_first_and_killed_it_goes_on_as_if_never_stopped(
    machines: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    monkeypatch.setenv("LEYDEN_RUNS", str(shared / "runs"))
    flags = ("--max-epochs", "40", "--test")
    alone = two_processes.start(command(machines[0] / "houses.csv", 1, *flags))
    errors = ended(alone)
    assert all(process.returncode == 0 for process in alone), errors
    expected, _ = only_run(shared)

    killed = two_processes.start(command("houses.csv", 2, *flags), apart=tmp_path)
    until = time.monotonic() + 120
    while not list(machines[0].glob("runs/*/*/checkpoints/last.ckpt")) and time.monotonic() < until:
        time.sleep(0.02)
    for process in killed:
        process.kill()
    ended(killed)
    run, before = only_run(machines[0])
    assert before["state"] == "running", "it was killed"
    again = two_processes.start(command("houses.csv", 2, *flags), apart=tmp_path)
    said = [process.communicate(timeout=280) for process in again]
    assert all(process.returncode == 0 for process in again), said
    assert f"go on with {run.relative_to(machines[0])}" in said[0][0]
    assert said[1][0] == "", "one summary"
    found, record = only_run(machines[0])
    assert (found, record["state"]) == (run, "done")
    assert [path.name for path in machines[1].iterdir() if path.name != "cache"] == ["houses.csv"]
    assert not list(machines[1].glob("cache/copies/*")), "copies are removed"
    assert logged(found) == logged(expected)
    for name in ("predictions_val.csv", "predictions_test.csv"):
        assert (found / name).read_bytes() == (expected / name).read_bytes()


def change(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([*lines[:1], lines[1].replace("h0,", "h0,9"), *lines[2:]]), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "second", "said"),
    [
        (change, (), "process 1 differs from process 0: the data (a hash)"),
        (lambda path: None, ("--seed", "1"), "process 1 differs from process 0: --seed 1 against 0"),
        (Path.unlink, (), "process 1: --data-dir houses.csv: no such file"),
    ],
)
def test_machines_that_differ_are_refused(
    spoil: Any, second: tuple[str, ...], said: str, machines: list[Path], tmp_path: Path
) -> None:
    spoil(machines[1] / "houses.csv")
    processes = two_processes.start(command("houses.csv", 2, "--max-epochs", "1"), apart=tmp_path, second=second)
    errors = ended(processes)
    assert all(process.returncode for process in processes), errors
    assert said in errors[0]
    assert "rror" not in errors[1], "it is said once"
    _, record = only_run(machines[0])
    assert record["state"] == "failed"
    assert record["reason"].startswith(said)
