"""A run's record: held in memory, written whole, read again only where another process has written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from experiments.tables import TableClassification
from src.experiment import Experiment, InputError
from src.runs import records
from src.runs.records import Record
from src.training import runner
from src.training.options import RunOptions

pytestmark = pytest.mark.usefixtures("quiet")

READ: list[Path] | None = None
"""The run.json files that were opened to be read, while somebody counts."""


def note(event: str, args: tuple[Any, ...]) -> None:
    if event == "open" and READ is not None and str(args[0]).endswith("run.json") and "r" in (args[1] or ""):
        READ.append(Path(str(args[0])))


sys.addaudithook(note)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    found: list[Path] = []
    monkeypatch.setattr(sys.modules[__name__], "READ", found)
    return found


def test_a_run_reads_its_record_once_at_most(houses: Path, read: list[Path]) -> None:
    asked = TableClassification(data_dir=houses, target="size", max_epochs=1)
    run = runner.run(asked)
    assert read == [], "a new run has written it itself"
    runner.run(asked, RunOptions(resume=run, test=True, baselines=True))
    assert read == [run / "run.json"]
    record = records.load(run)
    assert (record["state"], record["tests_read"]) == ("done", 1)
    assert record["calibration"].keys() >= {"temperature", "test"}
    assert record.keys() >= {"metrics", "per_class", "best", "time", "baselines", "reason"}
    assert "stand_in" in record["data"]


def test_changes_are_written_at_once_and_seen_by_others(tmp_path: Path, read: list[Path]) -> None:
    record = Record(tmp_path)
    assert not record
    record.start(Experiment(seed=3))
    record.update(state="done", reason="enough")
    assert (record["seed"], record["state"]) == (3, "done")
    assert read == []
    other = Record.read(tmp_path)
    assert dict(other) == dict(record)
    other.update(tests_read=1)  # as a spawned process does
    record.update(state="failed")
    assert (record["tests_read"], record["state"]) == (1, "failed")
    assert other["state"] == "failed"


def test_a_record_that_went_away(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.start(Experiment())
    (tmp_path / "run.json").unlink()
    with pytest.raises(InputError, match="no run"):
        record.update(state="done")
