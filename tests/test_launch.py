"""launch.py: a run by torchrun or Slurm, which goes on when the engine starts it again."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Script

from src.configs.errors import InputError
from src.launch import local, slurm
from src.runs import records

ROOT = Path(__file__).resolve().parents[1]
TARGET = "experiments/tables.py:TableRegression"
SMALL = ("--target", "price", "--batch-size", "8", "--patience", "None", "--logger", "csv", "--accelerator", "cpu")
LONG = (*SMALL, "--max-epochs", "60", "--checkpoint-every", "2")

SBATCH = """#!{python}
# One machine, one job at a time: runs the script with Slurm's variables, again where it was requeued.
import os, pathlib, subprocess, sys
place = pathlib.Path(__file__).parent
restarts = 0
while True:
    job = {{"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "tables", "SLURM_RESTART_COUNT": str(restarts), "SLURM_NTASKS": "1"}}
    job |= {{"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NNODES": "1"}}
    job |= {{"SLURM_NTASKS_PER_NODE": "1", "SLURM_JOB_NODELIST": "localhost", "SLURM_NODELIST": "localhost"}}
    with open(place / "output.txt", "a") as output:
        code = subprocess.run(["bash", sys.argv[1]], env=os.environ | job, stdout=output, stderr=output).returncode
    if not (place / "requeued").exists():
        break
    (place / "requeued").unlink()
    restarts += 1
print(f"Submitted batch job 7, which has had {{restarts}} restarts and ended with {{code}}")
"""
SRUN = """#!{python}
# Starts the command, and sends it SIGUSR1 the first time, once it has saved: its time is nearly over.
import os, pathlib, signal, subprocess, sys, time
command = [word for word in sys.argv[1:] if not word.startswith("--kill-on-bad-exit")]
process = subprocess.Popen(command)
if os.environ["SLURM_RESTART_COUNT"] == "0":
    runs = pathlib.Path(os.environ["LEYDEN_RUNS"])
    while process.poll() is None and not list(runs.glob("*/*/checkpoints/last.ckpt")):
        time.sleep(0.02)
    process.send_signal(signal.SIGUSR1)
sys.exit(process.wait() % 256)
"""
SCONTROL = """#!{python}
import pathlib, sys
assert sys.argv[1:] == ["requeue", "7"], sys.argv
(pathlib.Path(__file__).parent / "requeued").touch()
"""


def only_run(folder: Path) -> tuple[Path, dict[str, Any]]:
    (path,) = folder.glob("runs/*/*/run.json")
    return path.parent, json.loads(path.read_text(encoding="utf-8"))


def validations(run: Path) -> list[int]:
    """Return the epochs that were validated, as often as they were."""
    return [epoch for epoch, _, name, _ in records.metrics(run) if name == "val/rmse"]


def test_torchrun_starts_a_killed_run_again_which_goes_on(houses: Path, tmp_path: Path) -> None:
    words = [sys.executable, "scripts/launch.py", "local", TARGET, *LONG, "--data-dir", str(houses), "--processes", "2"]
    process = subprocess.Popen(
        [*words, "--max-restarts", "1"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 200
    while not list(tmp_path.glob("runs/*/*/checkpoints/last.ckpt")) and time.monotonic() < until:
        time.sleep(0.02)
    _, record = only_run(tmp_path)
    os.kill(record["pid"], signal.SIGKILL)
    said, errors = process.communicate(timeout=280)
    assert process.returncode == 0, errors
    run, record = only_run(tmp_path)
    assert record["state"] == "done"
    assert f"go on with {run}" in said
    assert validations(run) == list(range(1, 61)), "each once"


def test_slurm_requeues_a_run_whose_time_is_over(
    houses: Path, tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With commands in Slurm's place, which do what Slurm does; `make test-cluster` has the real ones."""
    commands = tmp_path / "commands"
    commands.mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("scontrol", SCONTROL)):
        (commands / name).write_text(text.format(python=sys.executable), encoding="utf-8")
        (commands / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(commands), prepend=os.pathsep)
    done = script("launch.py", "slurm", TARGET, *LONG, "--data-dir", houses, "--time", "01:00:00")
    assert done.returncode == 0, done.stderr
    output = (commands / "output.txt").read_text(encoding="utf-8")
    assert "with 1 restarts and ended with 0" in done.stdout.replace("which has had", "with"), output
    run, record = only_run(tmp_path)
    assert record["state"] == "done", output
    assert f"go on with {run}" in output
    assert "SIGUSR1: stopping after this step" in output
    assert validations(run) == list(range(1, 61)), "each once"


def test_the_batch_script(houses: Path, script: Script, tmp_path: Path) -> None:
    asked = ("--nodes", "2", "--gpus-per-node", "4", "--time", "04:00:00", "--partition", "gpu", "--sbatch=--qos=long")
    done = script("launch.py", "slurm", TARGET, *SMALL, "--data-dir", houses, *asked, "--seeds", "0", "1", "--dry-run")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "#!/bin/bash"
    asked_for = {line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH --")}
    assert {
        *("job-name=tables", "nodes=2", "ntasks-per-node=4", "gpus-per-node=4", "time=04:00:00", "partition=gpu"),
        *("array=0,1", "qos=long", "requeue", "signal=USR1@90", "open-mode=append"),
    } <= asked_for
    (srun,) = (line for line in lines if line.startswith("srun "))
    assert srun.endswith('--num-nodes=2 --devices=4 --seed "$SLURM_ARRAY_TASK_ID"')
    assert f"--data-dir {houses}" in srun
    checked = subprocess.run(["bash", "-n"], input=done.stdout, text=True, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert not list(tmp_path.rglob("*.sh")), "nothing is written"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("local",), "launch.py local: name an experiment."),
        (("pbs", TARGET), "pbs: no engine; there are local, slurm."),
        (("local", TARGET, "--processes", "0"), "--processes 0: at least 1."),
        (("local", TARGET, "--target", "price", "--max-epochz", "3"), "max-epochz"),
        (("slurm", TARGET, "--time", "soon"), "--time soon: as Slurm takes it"),
        (("slurm", TARGET, "--nodes", "0"), "--nodes 0: at least 1."),
        (("slurm", TARGET, "--data-dir", "nowhere.csv", "--target", "price"), "nowhere.csv"),
    ],
)
def test_bad_input(words: tuple[str, ...], said: str, script: Script, tmp_path: Path) -> None:
    done = script("launch.py", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("run.json"))


def test_without_slurm_the_script_is_kept(houses: Path, script: Script, tmp_path: Path) -> None:
    done = script("launch.py", "slurm", TARGET, *SMALL, "--data-dir", houses, PATH=str(tmp_path))
    assert done.returncode == 2
    (path,) = tmp_path.rglob("*.sh")
    assert done.stderr == f"error: sbatch: not found. Submit {path} on a machine of the cluster: sbatch {path}\n"


def test_numbers_are_checked() -> None:
    with pytest.raises(InputError, match="--max-restarts -1: at least 0"):
        local.command([TARGET], 2, -1)
    with pytest.raises(InputError, match="--gpus-per-node -1: at least 0"):
        slurm.Job(gpus_per_node=-1)
    assert slurm.Job(gpus_per_node=4).tasks == 4
    assert slurm.Job().tasks == 1
