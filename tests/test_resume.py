"""A run that was killed goes on as if it had never stopped: the same weights to the bit, the same history."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import kills
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kills import Averaged, Cached, Images, Numbers, Recipes, Texts, differences, in_process, only_run, train
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from src.callbacks.checkpoints import Every
from src.datamodules import Batches
from src.experiment import InputError, Optim
from src.runs import records, state
from src.runs.metrics_csv import MetricsCsv

STEPS = {Images: 12, Recipes: 12, Cached: 12, Texts: 21, Numbers: 9, Averaged: 9}
"""Of an epoch."""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[type, int], tuple[kills.Mortal, Path]]:
    """Return an experiment of a kind and its run, left alone; in the main process whatever the workers."""
    from src.datamodules.synthetic.images import draw_folder

    home = tmp_path_factory.mktemp("alone")
    draw_folder(home / "images", train=48, val=16, test=16)
    kinds = {(type(one), one.num_workers): one for one in kills.experiments(home, home / "images")}
    done: dict[type, Path] = {}

    def of(kind: type, workers: int) -> tuple[kills.Mortal, Path]:
        if kind not in done:
            done[kind] = kills.kill_and_go_on(kinds[kind, 0], home / kind.__name__, ())
        return kinds[kind, workers], done[kind]

    return of


MOMENTS = ("first step", "midst of an epoch", "last step of an epoch", "first of the next")
CASES = [
    (kind, workers, at)
    for kind in (Images, Cached, Texts, Numbers)
    for workers in (0, 2)
    for at in MOMENTS
    if (at == MOMENTS[1] and (workers == 0 or kind is Images)) or (kind, workers) in ((Numbers, 0), (Texts, 2))
]
CASES += [(Recipes, 0, MOMENTS[1]), (Averaged, 0, "last epoch")]  # docs/kills.md has all kinds with workers
SLOW = [*((Texts, 2, at) for at in MOMENTS if at != MOMENTS[1]), (Texts, 0, MOMENTS[1]), (Images, 0, MOMENTS[1])]


@pytest.mark.parametrize(
    ("kind", "workers", "at"),
    [pytest.param(*case, marks=pytest.mark.slow) if case in SLOW else case for case in CASES],
)
def test_killed_runs_end_as_if_left_alone(
    alone: Callable[[type, int], tuple[kills.Mortal, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: type,
    workers: int,
    at: str,
) -> None:
    experiment, reference = alone(kind, workers)
    monkeypatch.setenv("LEYDEN_RUNS", str(tmp_path / "runs"))  # the module's fixture has set another
    steps = STEPS[kind]
    step = {"first step": 0, "midst of an epoch": steps + 6, "last step of an epoch": steps - 1}.get(at, 2 * steps)
    step = 5 * steps + 6 if at == "last epoch" else step
    assert in_process(train, dataclasses.replace(experiment, dies_at=step)) == -signal.SIGKILL
    run = only_run(tmp_path / "runs")
    assert run is not None
    assert state.state_of(run, records.load(run)) == "died"
    if at == "midst of an epoch":
        last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
        assert steps < last["global_step"] <= step, "the premise: it goes on within an epoch"
    assert in_process(kills.go_on, experiment, run) == 0
    assert differences(run, reference) == []


def test_killed_after_it_has_stopped_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No checkpoint says that the training is over; it must not go on for another epoch."""
    table = kills.write_table(tmp_path / "table.csv")
    experiment = Numbers(data_dir=table, num_workers=0, patience=1, max_epochs=30, optim=Optim(lr=0.3))
    alone = kills.kill_and_go_on(experiment, tmp_path / "alone", ())
    assert records.load(alone)["reason"].startswith("no better")
    monkeypatch.setenv("LEYDEN_RUNS", str(tmp_path / "runs"))
    assert in_process(train, dataclasses.replace(experiment, dies_at=10_000)) == -signal.SIGKILL
    run = only_run(tmp_path / "runs")
    assert run is not None
    assert records.load(run)["state"] == "running"
    assert in_process(kills.go_on, experiment, run) == 0
    assert differences(run, alone) == []


def test_tensorboard_shows_each_step_once(
    alone: Callable[[type, int], tuple[kills.Mortal, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment, _ = alone(Texts, 0)
    monkeypatch.setenv("LEYDEN_RUNS", str(tmp_path / "runs"))
    dying = dataclasses.replace(experiment, dies_at=31, saves="8")
    in_process(train, dying)  # saved at step 29, logged and validated since
    run = only_run(tmp_path / "runs")
    assert run is not None
    before = len(records.metrics(run))
    assert in_process(kills.go_on, experiment, run) == 0
    assert len(list(run.glob("events.*"))) > 1
    shown = EventAccumulator(str(run)).Reload()
    for name in ("train/loss_step", "val/loss", "train/loss"):
        rows = [(step, value) for _, step, found, value in records.metrics(run) if found == name]
        assert len({step for step, _ in rows}) == len(rows)
        assert [(event.step, pytest.approx(event.value)) for event in shown.Scalars(name)] == rows
    assert before, "the premise: there were rows"


def test_a_signal_loses_nothing_either(
    alone: Callable[[type, int], tuple[kills.Mortal, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step 10 is validated and step 9 logged: the run stops as soon as a checkpoint can hold all."""
    experiment, reference = alone(Texts, 0)
    monkeypatch.setenv("LEYDEN_RUNS", str(tmp_path / "runs"))
    for step in (8, 9, 10):
        dying = dataclasses.replace(experiment, dies_at=step, by=signal.SIGTERM, saves="10min")
        assert in_process(train, dying) == 143
        runs = [path.parent for path in (tmp_path / "runs").glob("*/*/run.json")]
        (run,) = [path for path in runs if records.load(path)["state"] == "interrupted"]
        assert in_process(kills.go_on, experiment, run) == 0
        assert differences(run, reference) == []


def test_differences_are_seen(alone: Callable[[type, int], tuple[kills.Mortal, Path]], tmp_path: Path) -> None:
    """The comparison that the tests above rely on."""
    experiment, reference = alone(Numbers, 0)
    other = kills.kill_and_go_on(dataclasses.replace(experiment, seed=1), tmp_path / "other", ())
    found = " ".join(differences(other, reference))
    for part in ("state_dict", "optimizer_states", "metrics.csv", "predictions_val.csv", "best"):
        assert part in found


def test_a_run_that_is_going_on_is_left_alone(
    alone: Callable[[type, int], tuple[kills.Mortal, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    experiment, reference = alone(Numbers, 0)
    monkeypatch.setenv("LEYDEN_RUNS", str(tmp_path / "runs"))
    at_work = kills.start(train, dataclasses.replace(experiment, dies_at=20, by=signal.SIGSTOP))
    stopped = psutil.Process(at_work.pid)
    while stopped.status() != psutil.STATUS_STOPPED:
        time.sleep(0.05)
    run = only_run(tmp_path / "runs")
    assert run is not None
    long_ago = time.time() - 2 * state.SILENT
    for name in ("run.json", "heartbeat"):
        os.utime(run / name, (long_ago, long_ago))
    assert state.state_of(run, records.load(run)) == "running", "a process that is stopped lives"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert kills.go_on(experiment, run) == 1
    assert f"{run}: process {at_work.pid} on" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    while at_work.is_alive():  # it stops at each batch of step 20
        os.kill(at_work.pid, signal.SIGCONT)
        at_work.join(0.1)
    assert differences(run, reference) == [], "and goes on when it is woken"


@given(size=st.integers(1, 60), batch=st.integers(1, 9), epoch=st.integers(0, 5), done=st.integers(0, 70))
@settings(deadline=None)
def test_the_rest_of_an_epoch(size: int, batch: int, epoch: int, done: int) -> None:
    batches = Batches(size, batch, train=True)
    batches.set_epoch(epoch)
    whole = list(batches)
    batches.done = done
    iter(batches)  # as a loader with workers does before it begins
    assert list(batches) == whole[done:]
    assert list(batches) == whole, "the next epoch is whole"


def test_rows_past_the_checkpoint_are_cut(tmp_path: Path) -> None:
    table = MetricsCsv(tmp_path)
    for step in range(6):
        table.log_metrics({"train/loss": step / 7, "epoch": 0}, step=step)
    with open(table.path, "a", encoding="utf-8") as file:
        file.write("1.0,1,6,train/lo")  # a crash cut it short
    table.cut(4)
    assert [step for _, step, _, _ in records.metrics(tmp_path)] == [0, 1, 2, 3]
    table.log_metrics({"train/loss": 0.5, "epoch": 0}, step=4)
    assert records.metrics(tmp_path)[-1] == (1, 4, "train/loss", 0.5)
    table.cut(0)
    assert records.metrics(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "every"), [("500", Every(steps=500)), ("10min", Every(seconds=600)), ("2 min", Every(seconds=120))]
)
def test_checkpoint_every(text: str, every: Every) -> None:
    assert Every.parse(text) == every


@pytest.mark.parametrize("text", ["", "0", "-3", "10s", "min", "1.5", "0min"])
def test_checkpoint_every_of_nothing(text: str) -> None:
    with pytest.raises(InputError, match=r"--checkpoint-every .*: steps, such as 500, or minutes, such as 10min"):
        Every.parse(text)


@pytest.mark.slow
def test_fifty_random_kills(capfd: pytest.CaptureFixture[str]) -> None:
    assert kills.main(50) == 0
    assert "50 kills, 0 differences" in capfd.readouterr().out
