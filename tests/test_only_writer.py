"""One process alone works on a run; what is refused changes nothing; what others copied or left there does no harm."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kills
import pytest
from conftest import ROOT, Script
from kills import Numbers, differences, in_process, only_run

from src.experiment import InputError, Optim
from src.runs import records, state
from src.runs.records import TakenOver
from src.studies.cross_validation import cross_validate
from src.studies.ensemble import ensemble
from src.training import runner
from src.training.options import RunOptions

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
def numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Numbers:
    monkeypatch.setenv("LEYDEN_RUNS", str(tmp_path / "runs"))
    return Numbers(data_dir=kills.write_table(tmp_path / "table.csv"), num_workers=0, max_epochs=3)


@pytest.fixture
def killed(numbers: Numbers, tmp_path: Path) -> Path:
    """A run that was killed in its second epoch."""
    assert in_process(kills.train, dataclasses.replace(numbers, dies_at=12)) == -signal.SIGKILL
    run = only_run(tmp_path / "runs")
    assert run is not None
    return run


def files(run: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}
    return {name: content for name, content in found.items() if name not in ("lock", "heartbeat")}


def resume(experiment: Numbers, run: Path) -> Path:
    return runner.run(experiment, RunOptions(resume=run))


# ---------------------------------------------------------------------------------------------------------- one writer
def test_of_processes_that_go_on_with_a_run_at_once_one_does(numbers: Numbers, tmp_path: Path) -> None:
    run, codes = kills.together(numbers, tmp_path / "runs", processes=4)
    assert sorted(codes) == [0, 1, 1, 1]
    os.environ["LEYDEN_RUNS"] = str(tmp_path / "alone")
    assert differences(run, runner.run(numbers)) == []


def test_a_run_says_that_it_runs_before_anything_is_set_up(numbers: Numbers, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    def resolve(self: Numbers) -> Numbers:
        seen.extend(records.load(path.parent) for path in records.runs_dir().glob("*/*/run.json"))
        return self

    monkeypatch.setattr(Numbers, "resolve", resolve)
    runner.run(numbers)
    assert seen[0]["state"] == "running"
    assert {name: seen[0][name] for name in ("host", "pid", "pid_started")} == state.writer()


def test_the_number_of_a_dead_process_is_another_ones(tmp_path: Path) -> None:
    record = {"state": "running", **state.writer()}
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert state.state_of(tmp_path, record) == "running"
    assert state.state_of(tmp_path, record | {"pid_started": record["pid_started"] - 5}) == "died"


class TakesOver(kills.Callback):
    """Does what a process on another host does that takes this one for dead."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 15:
            (run,) = (path.parent for path in records.runs_dir().glob("*/*/run.json"))
            records.write_json(run / "run.json", records.load(run) | {"host": "other", "pid": 7, "pid_started": 1.0})
            (run / "metrics.csv").write_text("of the other process\n")
            (run / "checkpoints" / "last.ckpt").write_text("of the other process")


def test_a_run_that_was_taken_over_ends_and_writes_nothing_more(
    numbers: Numbers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Numbers, "callbacks", lambda self: [TakesOver()])
    with pytest.raises(TakenOver, match=r"process 7 on other has taken this run over .* writes nothing more"):
        runner.run(numbers)
    run = only_run(tmp_path / "runs")
    assert run is not None
    assert records.load(run) | {"host": "other", "state": "running"} == records.load(run)
    assert (run / "metrics.csv").read_text() == "of the other process\n"
    assert (run / "checkpoints" / "last.ckpt").read_text() == "of the other process"


def test_a_file_system_without_locks(
    numbers: Numbers, killed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def flock(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    records.Record.read(killed).update(host="other")
    with pytest.raises(InputError, match=r"process \d+ on other is at work on this run"):
        resume(numbers, killed)
    records.Record.read(killed).update(host=socket.gethostname())  # where that process is gone
    resume(numbers, killed)
    assert records.load(killed)["state"] == "done"


@pytest.mark.parametrize("study", [cross_validate, ensemble])
def test_the_first_record_of_a_parent_and_of_its_child_says_what_they_are(
    study: Callable[[Numbers, int], Path], numbers: Numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill after it must not turn a cross-validation into one run, or a fold into a run on all data."""
    seen: list[dict[str, Any]] = []

    def resolve(self: Numbers) -> Numbers:
        newest = max(records.runs_dir().rglob("run.json"), key=lambda path: path.stat().st_mtime_ns)
        seen.append(records.load(newest.parent))
        return self

    monkeypatch.setattr(Numbers, "resolve", resolve)
    study(dataclasses.replace(numbers, max_epochs=1, data_dir=numbers.data_dir), 2)
    kind = "folds" if study is cross_validate else "ensemble"
    assert seen[0][kind] == 2
    assert "metrics" not in seen[0]
    if study is cross_validate:
        expected = [{"number": number, "count": 2, "held_out": "test"} for number in (1, 2)]
        assert [record.get("fold") for record in seen[1:]] == expected


# ----------------------------------------------------------------------------------------------- what cannot be changed
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 16}, r"--batch-size 16: the run was begun with 8"),
        ({"accumulate": 1}, r"--accumulate 1: the run was begun with 2"),
        ({"averaging": "ema"}, r"--averaging ema: the run was begun with none"),
        ({"monitor": "val/r2", "mode": "max"}, r"--monitor val/r2: the run was begun with val/rmse"),
        ({"devices": "2", "strategy": "ddp_fork"}, r"--devices 2: the run was begun on 1, here it would be on 2"),
        ({"mlp": kills.Perceptron(width=24)}, r"size mismatch"),
        ({"optim": Optim(name="nonesuch")}, r"nonesuch"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_a_checkpoint_counts_on_stays(
    changes: dict[str, Any], message: str, numbers: Numbers, killed: Path, tmp_path: Path
) -> None:
    before = files(killed)
    with pytest.raises(Exception, match=message):
        resume(dataclasses.replace(numbers, **changes), killed)
    after = files(killed)
    assert json.loads(after.pop("run.json")) == json.loads(before.pop("run.json"))
    events = {name for name in after if "tfevents" in name}
    assert {name: after[name] for name in after.keys() - events} == {
        name: before[name] for name in before.keys() - events
    }, "nothing was lost"
    resume(numbers, killed)
    os.environ["LEYDEN_RUNS"] = str(tmp_path / "alone")
    assert differences(killed, runner.run(numbers)) == []


# ----------------------------------------------------------------------------------------------------------- leftovers
def test_what_killed_writes_left_is_removed_and_damaged_rows_do_no_harm(
    numbers: Numbers, killed: Path, tmp_path: Path
) -> None:
    left = [killed / ".run.json-abcd1234", killed / "checkpoints" / ".last.ckpt-x_y2z3w4"]
    for path in left:
        path.write_bytes(b"half")
    rows = (killed / "metrics.csv").read_bytes().splitlines(keepends=True)
    bad = [b"\x00\xff\xfe\n", b"1,2\n", b"1.0,x,y,train/loss,1\n", b'"' + b"9" * 200_000 + b"\n"]
    (killed / "metrics.csv").write_bytes(b"".join([rows[0], *bad, *rows[1:]]))
    resume(numbers, killed)
    assert not any(path.exists() for path in left)
    os.environ["LEYDEN_RUNS"] = str(tmp_path / "alone")
    assert differences(killed, runner.run(numbers)) == []
    assert (killed / "metrics.csv").read_bytes().splitlines(keepends=True)[1:5] == bad, "nothing is lost"


def test_no_thread_stays_behind(numbers: Numbers) -> None:
    at_first = set(threading.enumerate())  # other tests' too
    runner.run(numbers)
    before = set(threading.enumerate())
    runner.run(numbers)
    assert set(threading.enumerate()) == before
    assert not [thread for thread in before - at_first if "Writer" in type(thread).__name__]


# ------------------------------------------------------------------------------------------------ runs from elsewhere
def test_code_below_experiments_alone_is_imported(
    numbers: Numbers, killed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from src.cli.parser import parse

    mark = tmp_path / "code-was-run"
    evil = tmp_path / "evil"
    evil.mkdir()
    (evil / "__init__.py").write_text("")
    (evil / "tables.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in (
        "evil.tables.TableRegression",
        "experiments/../evil.tables.X",
        "experiments.é/x.X",
        "experiments..x.X",
    ):
        records.write_json(killed / "run.json", records.load(killed) | {"experiment": name})
        for flag in ("--resume", "--reproduce"):
            with pytest.raises(InputError, match=r"not below experiments/, so its code is not run"):
                parse([flag, str(killed)])
    assert not mark.exists()


def test_an_experiment_elsewhere_in_the_checkout_is_named_by_its_file(
    numbers: Numbers, killed: Path, tmp_path: Path, script: Script
) -> None:
    folder = ROOT / f"own_{os.getpid()}"
    folder.mkdir()
    try:
        (folder / "mine.py").write_text("from kills import Numbers\n\n\nclass Mine(Numbers): ...\n\n\nDEFAULT = Mine\n")
        record = records.load(killed)
        records.write_json(killed / "run.json", record | {"experiment": f"{folder.name}.mine.Mine"})
        tests = str(ROOT / "tests")
        refused = script("run.py", "--resume", killed, PYTHONPATH=tests)
        assert f"name its file too: run.py {folder.name}/mine.py --resume RUN" in refused.stderr
        done = script("run.py", f"{folder.name}/mine.py", "--resume", killed, "--dies-at", "None", PYTHONPATH=tests)
        assert done.returncode == 0, done.stderr
        table = str(numbers.data_dir)
        named = ("--experiment", f"{folder.name}/mine.py", "--out", tmp_path / "out.csv")
        assert script("predict.py", killed, table, PYTHONPATH=tests).returncode == 2
        assert script("predict.py", killed, table, *named, PYTHONPATH=tests).returncode == 0
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["metrics.csv", "heartbeat", "checkpoints", "lock", "run.json"])
def test_a_link_out_of_a_run_is_not_followed(name: str, numbers: Numbers, killed: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    if (killed / name).exists():
        (killed / name).rename(outside)
    else:
        outside.write_text("precious")
    (killed / name).unlink(missing_ok=True)
    (killed / name).symlink_to(outside)
    before = outside.read_bytes() if outside.is_file() else sorted(outside.iterdir())
    with pytest.raises(InputError, match=rf"{name}: a link to .*outside, outside of the run"):
        resume(numbers, killed)
    assert before == (outside.read_bytes() if outside.is_file() else sorted(outside.iterdir()))


def test_names_in_a_run_are_compared_and_not_opened(numbers: Numbers, killed: Path, tmp_path: Path) -> None:
    ids = json.loads((killed / "split.json").read_text())
    (killed / "split.json").write_text(json.dumps({split: ["../../outside", "/etc/passwd", None] for split in ids}))
    resume(numbers, killed)
    assert json.loads((killed / "split.json").read_text()) == ids
    (killed / "split.json").write_text(json.dumps({"val": 3}))
    with pytest.raises(InputError, match=r"split.json: damaged"):
        runner.run(numbers, RunOptions(same_data_as=killed))


def test_a_list_that_a_run_names_is_a_file(numbers: Numbers, killed: Path) -> None:
    """One without an end would take all memory."""
    from src.cli.parser import parse

    record = records.load(killed)
    records.write_json(killed / "run.json", record | {"fields": record["fields"] | {"quarantine": "/dev/zero"}})
    (experiment,) = parse(["--resume", str(killed)]).experiments
    with pytest.raises(InputError, match=r"--quarantine /dev/zero: cannot be read \(it is no file"):
        runner.run(experiment, RunOptions(resume=killed))


@pytest.mark.parametrize("name", ["run.json", "metrics.csv"])
def test_a_pipe_in_a_run_does_not_hang(name: str, numbers: Numbers, killed: Path) -> None:
    (killed / name).unlink()
    os.mkfifo(killed / name)
    with pytest.raises(InputError, match=rf"{name}"):
        resume(numbers, killed)
