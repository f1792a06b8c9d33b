"""Small searches, in this process and in others: what the tests of searching share.

As a command, the table of many random kills: `python tests/searches.py 20`.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import kills
import psutil
from lightning.pytorch import Callback, LightningModule, Trainer

from experiments.tables import TableRegression
from src.callbacks import Interrupted
from src.callbacks.graceful_stop import handling, interrupt
from src.configs.search import Search, choice, log
from src.experiment import Columns, Experiment, InputError, Perceptron
from src.runs import records
from src.studies import search as studies
from src.training.trainer import quieten


class Houses(TableRegression):
    """An MLP with dropout on the houses' prices, at a size for tests."""

    target = "price"
    columns = Columns(ignored=("size",))
    mlp = Perceptron(width=8, dropout=0.2)
    max_epochs = 4
    patience = None
    batch_size = 16
    accelerator = "cpu"
    logger = ("csv",)


SPACE = Search({"optim.lr": log(1e-4, 1e-1), "mlp.width": choice(4, 8, 16), "mlp.dropout": choice(0.0, 0.3)}, trials=8)


class Slow(Callback):
    """Takes its time over a step."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        time.sleep(self.seconds)


class SlowHouses(Houses):
    """The same, so slow that it can be killed in its midst."""

    validations = 2
    step: float = 0.02
    """Seconds a step."""

    def callbacks(self) -> list[Callback]:
        return [Slow(self.step)]


def search(experiment: Experiment, wanted: Search = SPACE, **options: Any) -> int:
    """Search as the command does; return the exit code."""
    quieten()
    try:
        with handling(interrupt):
            studies.search(experiment, wanted.checked(experiment), studies.SearchOptions(**options))
    except Interrupted as stop:
        return stop.exit_code
    except InputError as error:
        print(f"error: {error}", flush=True)
        return 1
    return 0


def search_with(experiment: Experiment, options: dict[str, Any]) -> int:
    return search(experiment, **options)


def join(experiment: Experiment, run: Path) -> int:
    """Take part in a search as another machine does."""
    quieten()
    with handling(interrupt):
        studies.join(run, experiment)
    return 0


def only_search() -> Path:
    """Return the directory of the one search that there is."""
    (run,) = (path.parent for path in records.runs_dir().glob("*/*/run.json"))
    return run


def wait_for(pattern: str, seconds: float = 120.0) -> None:
    """Return when the search has a file of such a name."""
    until = time.monotonic() + seconds
    while not list(records.runs_dir().glob(f"*/*/{pattern}")) and time.monotonic() < until:
        time.sleep(0.05)


def story(run: Path) -> list[tuple[Any, ...]]:
    """Return what became of each trial of a search."""
    return [
        (one.number, one.params, one.state.name, one.value, one.intermediate_values, one.user_attrs["run"])
        for one in studies.study_of(run).get_trials(deepcopy=False)
    ]


def kill_until_done(experiment: Experiment, wanted: Search, rng: random.Random, most: float, kill: int) -> int:
    """Search in a process that is killed after random times, so many times at most, and goes on; return how often."""
    killed = 0
    while True:
        run = only_search() if list(records.runs_dir().glob("*/*/run.json")) else None
        after = rng.uniform(0.1, most) if killed < kill else None
        code = kills.in_process(search_with, experiment, {"wanted": wanted, "resume": run}, kill_after=after)
        if code == 0:
            return killed
        assert code == -signal.SIGKILL, code
        killed += 1


def no_trial_is_lost_or_counted_twice(run: Path, trials: int) -> None:
    """Assert it of a search that is done: each trial finished once, in a run of its own."""
    found = studies.study_of(run).get_trials(deepcopy=False)
    assert [one.number for one in found] == list(range(trials))
    assert all(one.state.is_finished() for one in found)
    trained = [one for one in found if "same_as" not in one.user_attrs]
    assert sorted(path.name for path in run.glob("trial-*")) == sorted(one.user_attrs["run"] for one in trained)
    for one in trained:
        record = records.load(run / one.user_attrs["run"])
        assert record["state"] == ("failed" if one.state.name == "FAIL" else "done")
        if one.state.name == "COMPLETE":
            assert record["best"]["value"] == one.value
        told = [value for _, _, name, value in records.metrics(run / one.user_attrs["run"]) if name == "val/rmse"]
        assert list(one.intermediate_values.values()) == told


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    """Return the processes that a search has started and that run trials."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [one for one in process.children() if any("spawn_main" in word for word in one.cmdline())]
    return []


def kill_at_random(experiment: Experiment, wanted: Search, kill: int, rng: random.Random, seconds: float) -> list[str]:
    """Search with two workers, kill so many processes at random, the search's own or a worker's; return which."""
    killed: list[str] = []
    process, run = None, None
    while True:
        if process is None:
            process = kills.start(search_with, experiment, {"resume": run, "workers": 2, "wanted": wanted})
        process.join(rng.uniform(0.3, seconds) if len(killed) < kill else None)
        print(f"{time.monotonic():.1f}", killed[-1:], len(killed), flush=True)
        if not process.is_alive():
            if process.exitcode == 0:
                return killed
            assert process.exitcode == -signal.SIGKILL, (process.exitcode, records.load(only_search())["reason"])
        run = only_search() if list(records.runs_dir().glob("*/*/run.json")) else None
        workers = workers_of(psutil.Process(process.pid)) if process.is_alive() else []
        if rng.random() < 0.3 or not workers:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            process = None
            killed.append("the search")
        else:
            with contextlib.suppress(psutil.NoSuchProcess):
                rng.choice(workers).kill()
                killed.append("a worker")


def main(kill: int, seed: int = 0) -> None:
    """Kill a search of 30 trials with two workers so many times, and print what was killed and how it ended."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"LEYDEN_RUNS": str(folder / "runs"), "LEYDEN_CACHE": str(folder / "cache")}
        slow = SlowHouses(data_dir=kills.write_table(folder / "table.csv"), columns=Columns(), step=1.0)
        killed = kill_at_random(slow, replace(SPACE, trials=30), kill, random.Random(seed), 30.0)
        print(f"{len(killed)} kills: {', '.join(killed)}")
        for line in story(only_search()):
            print(*line)
        no_trial_is_lost_or_counted_twice(only_search(), 30)
        print("no trial is lost or counted twice")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
