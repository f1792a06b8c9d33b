"""A search that is killed at any moment has the trials of one left alone; several processes share its trials."""

from __future__ import annotations

import os
import random
import signal
from dataclasses import replace
from pathlib import Path

import kills
import psutil
import pytest
import searches
from searches import SPACE, SlowHouses, no_trial_is_lost_or_counted_twice, only_search, story

from src.experiment import Columns, Search, choice
from src.runs import records
from src.studies.search import study_of


@pytest.fixture
def slow(tmp_path: Path) -> SlowHouses:
    """An experiment whose trials take half a second."""
    return SlowHouses(data_dir=kills.write_table(tmp_path / "table.csv"), columns=Columns())


def test_a_search_that_is_killed_has_the_trials_of_one_left_alone(
    slow: SlowHouses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = replace(SPACE, trials=6)
    assert kills.in_process(searches.search_with, slow, {"wanted": wanted}) == 0
    alone = only_search()
    rng = random.Random(0)
    monkeypatch.setenv("LEYDEN_RUNS", str(tmp_path / "killed"))
    assert searches.kill_until_done(slow, wanted, rng, most=1.0, kill=3) == 3
    no_trial_is_lost_or_counted_twice(only_search(), 6)
    assert story(only_search()) == story(alone)
    assert records.load(only_search())["best"] == records.load(alone)["best"]


def test_workers_are_killed_and_asked_to_stop(slow: SlowHouses) -> None:
    """One that is killed is replaced; all that are asked to stop save what they are about, and that goes on."""
    options = {"workers": 2, "wanted": replace(SPACE, trials=5)}
    process = kills.start(searches.search_with, slow, options)
    searches.wait_for("trial-*/metrics.csv")
    (first, *_) = before = searches.workers_of(psutil.Process(process.pid))
    assert len(before) == 2
    first.kill()
    searches.wait_for("trial-3/metrics.csv")
    assert len(searches.workers_of(psutil.Process(process.pid))) == 2
    os.kill(process.pid, signal.SIGTERM)
    process.join()
    assert process.exitcode == 128 + signal.SIGTERM
    assert not any(one.is_running() for one in before)
    run = only_search()
    assert records.load(run)["state"] == "interrupted"
    stopped = [one for one in study_of(run).get_trials() if one.state.name == "RUNNING"]
    assert stopped
    states = {records.load(run / one.user_attrs["run"])["state"] for one in stopped}
    assert states <= {"interrupted", "running"}  # the killed one's may not have been taken over yet
    assert kills.in_process(searches.search_with, slow, {"wanted": options["wanted"], "resume": run}) == 0
    no_trial_is_lost_or_counted_twice(run, 5)


def test_the_time_is_over(slow: SlowHouses) -> None:
    wanted = Search({"step": choice(0.0, 0.001, 2.0)}, sampler="grid", trials=3)  # seconds a step
    slow = replace(slow, seed=1)  # the slowest comes last
    assert kills.in_process(searches.search_with, slow, {"wanted": wanted, "seconds": 0.3}) == 1
    record = records.load(only_search())
    assert record["state"] == "failed"
    assert "no trial came to its end; the time was over first" in record["reason"]
    again = {"wanted": wanted, "resume": only_search(), "seconds": 8.0}
    assert kills.in_process(searches.search_with, slow, again) == 0
    record, found = records.load(only_search()), study_of(only_search()).get_trials()
    assert [one.state.name for one in found] == ["COMPLETE", "COMPLETE", "RUNNING"]
    assert (record["state"], record["reason"]) == ("done", "2 trials of 3: max_time is over")
    assert records.load(only_search() / "trial-3")["state"] == "interrupted"  # --resume goes on with it


def test_processes_that_share_a_search_are_killed(slow: SlowHouses) -> None:
    """Each other process does what the killed one has left."""
    rng = random.Random(0)
    process = kills.start(searches.search, slow)
    searches.wait_for("trial-1/run.json")
    run = only_search()
    for _ in range(2):  # others that join, and are killed
        kills.in_process(searches.join, slow, run, kill_after=rng.uniform(1.0, 2.5))
    process.join()
    assert process.exitcode == 0
    no_trial_is_lost_or_counted_twice(run, SPACE.trials)
    pids = {one.user_attrs["worker"]["pid"] for one in study_of(run).get_trials(deepcopy=False)}
    assert len(pids) > 1  # the others have had trials


@pytest.mark.slow
def test_twenty_kills() -> None:
    searches.main(20)
