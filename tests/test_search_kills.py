"""A search that is killed at any moment has the trials of one left alone; several processes share its trials."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from pathlib import Path

import kills
import psutil
import pytest
import searches
from searches import SPACE, SlowHouses, no_trial_is_lost_or_counted_twice, only_search, story

from src.experiment import Columns
from src.runs import records
from src.studies.search import study_of


@pytest.fixture
def slow(tmp_path: Path) -> SlowHouses:
    """An experiment whose trials take half a second."""
    return SlowHouses(data_dir=kills.write_table(tmp_path / "table.csv"), columns=Columns())


def test_a_search_that_is_killed_has_the_trials_of_one_left_alone(
    slow: SlowHouses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kills.in_process(searches.search, slow) == 0
    alone = only_search()
    rng = random.Random(0)
    monkeypatch.setenv("LEYDEN_RUNS", str(tmp_path / "killed"))
    assert searches.kill_until_done(slow, rng, most=3.0, kill=3) == 3
    no_trial_is_lost_or_counted_twice(only_search(), SPACE.trials)
    assert story(only_search()) == story(alone)
    assert records.load(only_search())["best"] == records.load(alone)["best"]


def test_processes_that_share_a_search_are_killed(slow: SlowHouses) -> None:
    """Each other process does what the killed one has left."""
    rng = random.Random(0)
    process = kills.start(searches.search, slow)
    until = time.monotonic() + 60
    while not list(records.runs_dir().glob("*/*/trial-1/run.json")) and time.monotonic() < until:
        time.sleep(0.05)
    run = only_search()
    for _ in range(2):  # others that join, and are killed
        kills.in_process(searches.join, slow, run, kill_after=rng.uniform(1.0, 2.5))
    process.join()
    assert process.exitcode == 0
    no_trial_is_lost_or_counted_twice(run, SPACE.trials)
    pids = {one.user_attrs["worker"]["pid"] for one in study_of(run).get_trials(deepcopy=False)}
    assert len(pids) > 1  # the others have had trials


def test_a_worker_that_is_killed_is_replaced(slow: SlowHouses) -> None:
    process = kills.start(searches.search_with, slow, {"workers": 2, "wanted": replace(SPACE, trials=4)})
    parent, until = psutil.Process(process.pid), time.monotonic() + 120
    while not list(records.runs_dir().glob("*/*/trial-*/metrics.csv")) and time.monotonic() < until:
        time.sleep(0.05)
    searches.workers_of(parent)[0].kill()
    process.join()
    assert process.exitcode == 0
    no_trial_is_lost_or_counted_twice(only_search(), 4)


@pytest.mark.slow
def test_twenty_kills() -> None:
    searches.main(20)
