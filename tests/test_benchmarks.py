"""The benchmarks' own arithmetic, and that one job's failure is a row. Speeds are never tested."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import report
from benchmarks import run as bench
from benchmarks.report import Row
from benchmarks.turns import Contender, Turns, race


@given(st.lists(st.floats(0.5, 2.0), min_size=5, max_size=9), st.floats(0.1, 10.0))
def test_the_ratio_is_of_rounds_and_within_its_interval(drift: list[float], faster: float) -> None:
    """A machine that slows down for a round slows both: the ratio does not see it."""
    other = [100 * d for d in drift]
    ours = [faster * speed for speed in other]
    middle, (low, high) = report.ratio(ours, other)
    assert middle == pytest.approx(faster)
    assert (low, high) == pytest.approx((faster, faster))


def test_an_interval_covers_the_middle_of_its_rounds() -> None:
    middle, (low, high) = report.ratio([1.0, 2.0, 3.0, 4.0, 5.0], [1.0] * 5)
    assert middle == 3.0
    assert 1.0 <= low < middle < high <= 5.0
    narrow = report.ratio([1.0, 2.0, 3.0, 4.0, 5.0] * 20, [1.0] * 100)[1]
    assert narrow[1] - narrow[0] < high - low


def test_marks_are_least_ratios_or_most_seconds() -> None:
    contenders = [
        Contender("ours", _counter(1)),
        Contender("slower", _counter(1), 1, "ours", 2.0),
        Contender("as fast", _counter(1), 1, "ours", 2.0),
        Contender("missing", _counter(1), 1, "ours", 2.0),
        Contender("alone", _counter(1), mark=0.5),
    ]
    speeds: dict[str, list[float] | str] = {
        "ours": [2.0] * 5, "slower": [1.0] * 5, "as fast": [2.0] * 5, "missing": "no such package", "alone": [0.4] * 5,
    }  # fmt: skip
    found = report.rows("job", contenders, speeds)
    assert [row.verdict for row in found] == ["", "hit", "MISS", "", "MISS"]
    assert "no such package" in report.table(found)
    at_most = report.rows("job", contenders, speeds, "s", most=True)
    assert [row.verdict for row in at_most] == ["", "hit", "hit", "", "hit"]


def test_rows_are_written_and_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [Row("job", "a", "s", 1.0, (0.5, 2.0), "b", 1.5, (1.0, 2.0), 1.25, True), Row("job", "b", note="not run")]
    report.show(rows, tmp_path / "rows.json")
    assert report.read(tmp_path / "rows.json") == rows
    assert "MISS" in capsys.readouterr().out


def _counter(amount: int) -> Callable[[Turns], None]:
    def train(turns: Turns) -> None:
        while True:
            time.sleep(0.001)
            turns.step(amount)

    return train


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # of Python 3.12, where the tests have threads
def test_contenders_that_fail_or_die_do_not_end_the_race() -> None:
    def fails(turns: Turns) -> None:
        turns.step(1)
        raise ValueError("no more")

    def dies(turns: Turns) -> None:
        os._exit(3)

    found = race([Contender("goes on", _counter(2), 3), Contender("fails", fails), Contender("dies", dies)], rounds=2)
    assert len(found["goes on"]) == 2
    assert "ValueError: no more" in found["fails"]
    assert "code 3" in found["dies"]


def test_a_job_that_fails_or_is_slow_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "fails.py").write_text("raise ImportError('no module named fastai')")
    (tmp_path / "slow.py").write_text("import time; time.sleep(60)")
    rows = json.dumps([{"job": "quick", "contender": "ours", "unit": "s", "median": 2.0}])
    (tmp_path / "good.py").write_text(f"import sys, pathlib; pathlib.Path(sys.argv[2]).write_text('''{rows}''')")
    fails, slow, good = (
        bench.do(bench.Job((str(tmp_path / f"{name}.py"),), 0.02)) for name in ("fails", "slow", "good")
    )
    assert fails[0].note == "not run: ImportError: no module named fastai"
    assert "not run: longer than" in slow[0].note
    assert good == [Row("quick", "ours", "s", 2.0)]


def test_results_replace_their_own_job_alone(tmp_path: Path) -> None:
    one, two, three = (bench.Job(("script.py", name), 1) for name in ("one", "two", "three"))
    parts, out = {"Speeds": [one, two], "Scores": [three]}, tmp_path / "results.md"
    for job, text in ((two, "first"), (three, "kept"), (one, "before it"), (two, "second\n\n**table**")):
        bench.write(out, {job.heading: text}, parts)
    assert out.read_text() == "\n".join([
        bench.INTRODUCTION, "## Speeds\n", f"{one.heading}\n\nbefore it\n", f"{two.heading}\n\nsecond\n\n**table**\n",
        "## Scores\n", f"{three.heading}\n\nkept\n",
    ])  # fmt: skip
    bench.write(out, {}, {"Speeds": [one]})  # a job that is no more
    assert "kept" not in out.read_text()


def test_every_job_is_a_script_that_knows_it() -> None:
    for job in (*bench.SPEEDS, *bench.FULL):
        assert f'"{job.words[1]}"' in (bench.ROOT / job.words[0]).read_text()
