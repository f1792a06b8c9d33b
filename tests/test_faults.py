"""Faults of the world around a run: each ends in a clear message, loses no finished result, and the run can go on."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import pickle
import re
import resource
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kills
import pytest
import torch
from kills import Numbers, Texts, differences, go_on, in_process, train

from src.callbacks.checkpoints import WholeCheckpointIO
from src.datamodules.texts.tokens import TextEncoder, load_tokenizer, train_tokenizer
from src.experiment import InputError, TextPrep
from src.inference import batch
from src.models.state_dicts import load_file
from src.resources.cache import cache_dir
from src.runs import records
from src.runs.state import heartbeat, state_of
from src.training import runner
from src.training.options import RunOptions

pytestmark = pytest.mark.usefixtures("quiet")

FINISHED = ("run.json", "metrics.csv", "predictions_val.csv", "checkpoints/best.ckpt", "checkpoints/last.ckpt")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    kills.write_table(folder / "table.csv")
    kills.write_texts(folder / "texts.csv")
    return folder


@pytest.fixture
def numbers(data: Path) -> Numbers:
    return Numbers(data_dir=data / "table.csv", num_workers=0, max_epochs=3)


@pytest.fixture
def finished(numbers: Numbers) -> Iterator[Path]:
    """A run that was done before the fault, and has to be as it was after it."""
    run = runner.run(numbers)
    before = {name: (run / name).read_bytes() for name in FINISHED}
    yield run
    assert {name: (run / name).read_bytes() for name in FINISHED} == before


def newest(folder: Path) -> Path:
    return max(folder.glob("*/*/run.json"), key=lambda record: record.stat().st_mtime_ns).parent


def without_root() -> None:
    """Give up root's right to write where nobody may, for this process and for good."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    for part in (0, 1):  # effective, permitted
        sets[part] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, sets) == 0


def test_a_disk_too_small_is_said_before_the_training(
    finished: Path, numbers: Numbers, small_disk: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEYDEN_RUNS", str(small_disk(1_000_000)))
    with pytest.raises(InputError, match=r"MB free, and the run's checkpoints take up to .* MB. Free some space"):
        runner.run(dataclasses.replace(numbers, mlp=kills.Perceptron(width=512)))
    run = newest(records.runs_dir())
    assert records.load(run)["state"] == "failed"
    assert records.metrics(run) == [], "nothing was trained for nothing"


def test_a_disk_that_fills_up(
    finished: Path,
    numbers: Numbers,
    small_disk: Callable[[int], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Another program takes all that is left within the first epochs."""

    class Hog(kills.Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 2:
                free = shutil.disk_usage(disk).free
                (disk / "hog").write_bytes(bytes(free // 4096 * 4096))
                assert shutil.disk_usage(disk).free < 4096

    disk = small_disk(3_000_000)
    monkeypatch.setenv("LEYDEN_RUNS", str(disk))
    longer = dataclasses.replace(numbers, max_epochs=4, saves="10min")
    with monkeypatch.context() as patch:
        patch.setattr(Numbers, "callbacks", lambda self: [Hog()])
        assert train(longer) == 1
    error = capsys.readouterr().err
    assert "cannot be saved (No space left on device); the one before it is as it was" in error
    assert "Traceback" not in error
    run = newest(disk)
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 1
    (disk / "hog").unlink()
    assert go_on(longer, run) == 0
    monkeypatch.setenv("LEYDEN_RUNS", str(disk.parent / "alone"))
    assert differences(run, runner.run(longer)) == []


@pytest.mark.parametrize("files", [8, 12])
def test_a_disk_on_which_there_can_be_no_more_files(
    files: int,
    finished: Path,
    numbers: Numbers,
    small_disk: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LEYDEN_RUNS", str(small_disk(100_000_000, files)))
    assert train(numbers) == 1
    error = capsys.readouterr().err
    assert "No space left on device" in error
    assert "`df -i` shows none free" in error or "the one before it is as it was" in error
    assert "Traceback" not in error


def train_with_few_files(experiment: Numbers, log: Path) -> int:
    sys.stderr = open(log, "w", encoding="utf-8")  # noqa: SIM115
    most = len(list(Path("/proc/self/fd").iterdir())) + 12
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return train(dataclasses.replace(experiment, num_workers=4))


def test_too_many_open_files(finished: Path, numbers: Numbers, tmp_path: Path) -> None:
    assert in_process(train_with_few_files, numbers, tmp_path / "log") == 1
    error = (tmp_path / "log").read_text()
    assert re.search(r"error: Numbers: .*[Tt]oo many open files.*ulimit -n", error), error


def train_in_little_shared_memory(experiment: Texts, log: Path, size: int) -> int:
    sys.stderr = open(log, "w", encoding="utf-8")  # noqa: SIM115
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(0x20000) == 0  # CLONE_NEWNS: what is mounted here is seen here alone
    assert libc.mount(b"none", b"/", None, 0x44000, None) == 0  # MS_REC | MS_PRIVATE
    assert libc.mount(b"small", b"/dev/shm", b"tmpfs", 0, f"size={size}".encode()) == 0
    return train(dataclasses.replace(experiment, num_workers=2))


@pytest.mark.parametrize("size", [4096, 40960], ids=["for its locks", "for its batches"])
def test_too_little_shared_memory(size: int, finished: Path, data: Path, tmp_path: Path) -> None:
    texts = Texts(data_dir=data / "texts.csv", batch_size=60, max_epochs=2)
    assert in_process(train_in_little_shared_memory, texts, tmp_path / "log", size) == 1
    error = (tmp_path / "log").read_text()
    assert re.search(r"error: Texts: .*/dev/shm: 0 MB free.*--num-workers 0.*--shm-size", error), error


class LocksItsFolder(kills.Callback):
    """Takes the right to write checkpoints away within the run."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            (newest(records.runs_dir()) / "checkpoints").chmod(0o500)


def train_locked(experiment: Numbers) -> int:
    without_root()
    Numbers.callbacks = lambda self: [LocksItsFolder()]  # pyright: ignore[reportAttributeAccessIssue]
    return train(dataclasses.replace(experiment, saves="10min"))


def test_a_directory_that_may_no_longer_be_written(finished: Path, numbers: Numbers) -> None:
    assert in_process(train_locked, numbers) == 1
    run = newest(records.runs_dir())
    assert run != finished
    record = records.load(run)
    assert record["state"] == "failed"
    assert "the checkpoint cannot be saved (Permission denied)" in record["reason"]
    (run / "checkpoints").chmod(0o700)
    assert in_process(go_on, numbers, run) == 0
    assert differences(run, finished) == []


def refused(experiment: Numbers) -> int:
    without_root()
    with pytest.raises(InputError, match="Permission denied"):
        runner.run(experiment)
    return 0


def test_runs_may_not_be_made_there(
    finished: Path, numbers: Numbers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    monkeypatch.setenv("LEYDEN_RUNS", str(locked))
    assert in_process(refused, numbers) == 0
    assert not list(locked.iterdir())


@pytest.mark.parametrize("damage", ["cut", "other bytes"])
def test_damaged_checkpoints_are_refused_and_caches_made_again(data: Path, tmp_path: Path, damage: str) -> None:
    """`last` is named with the way out; a cache is only made again."""

    def spoil(path: Path) -> None:
        """Other bytes of the same number are the file system's to find, but in a checkpoint."""
        content = path.read_bytes()
        half = len(content) // 2
        path.write_bytes({"cut": content[:half], "other bytes": os.urandom(len(content)), "empty": b""}[damage])

    texts = Texts(data_dir=data / "texts.csv", num_workers=0, max_epochs=2)
    assert in_process(train, texts) == 0
    run = newest(records.runs_dir())
    cached = [path for path in cache_dir().rglob("*") if path.is_file() and path.stat().st_size]
    assert cached
    for path in cached if damage != "other bytes" else ():
        spoil(path)
    assert in_process(train, texts) == 0
    again = newest(records.runs_dir())
    assert again != run
    assert differences(again, run) == []

    last = again / "checkpoints" / "last.ckpt"
    spoil(last)
    records.Record.read(again).update(state="interrupted")
    with pytest.raises(InputError, match=r"last.ckpt: damaged .*Copy best.ckpt over it"):
        runner.run(texts, RunOptions(resume=again))
    shutil.copy(again / "checkpoints" / "best.ckpt", last)
    assert in_process(go_on, texts, again) == 0


class RunsCode:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_checkpoint_that_would_run_code_is_refused(finished: Path, numbers: Numbers, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "from-elsewhere")
    mark = tmp_path / "code-was-run"
    bad = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) | {"extra": RunsCode(mark)}
    for name in ("last", "best"):
        torch.save(bad, run / "checkpoints" / f"{name}.ckpt")
    with pytest.raises(InputError, match=r"best.ckpt"):
        batch.write(run, [numbers.data_dir or Path()], tmp_path / "out.csv", accelerator="cpu")
    records.Record.read(run).update(state="interrupted")
    with pytest.raises(InputError, match=r"last.ckpt: damaged"):
        runner.run(numbers, RunOptions(resume=run))
    assert not mark.exists()
    pickle.loads(pickle.dumps(RunsCode(mark)))
    assert mark.exists(), "the premise: it does run code"


def test_a_checkpoint_that_is_a_zip_bomb_is_refused(finished: Path, numbers: Numbers, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "from-elsewhere")
    large = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) | {"zeros": torch.zeros(2**22)}
    torch.save(large, tmp_path / "large")
    with zipfile.ZipFile(tmp_path / "large") as stored, zipfile.ZipFile(tmp_path / "bomb", "w", 8) as bomb:
        for name in stored.namelist():
            bomb.writestr(name, stored.read(name))
    assert torch.load(tmp_path / "bomb", weights_only=True)["zeros"].numel() == 2**22, (
        "the premise: torch would read it"
    )
    assert (tmp_path / "bomb").stat().st_size < 2**18
    for name in ("last", "best"):
        shutil.copy(tmp_path / "bomb", run / "checkpoints" / f"{name}.ckpt")
    with pytest.raises(InputError, match=r"best.ckpt: .*it is compressed, and torch.save compresses nothing"):
        batch.write(run, [numbers.data_dir or Path()], tmp_path / "out.csv", accelerator="cpu")
    with pytest.raises(InputError, match=r"bomb: .*it is compressed"):
        load_file(torch.nn.Linear(1, 1), tmp_path / "bomb", prefix="model.")
    records.Record.read(run).update(state="interrupted")
    with pytest.raises(InputError, match=r"last.ckpt: damaged \(it is compressed"):
        runner.run(numbers, RunOptions(resume=run))


SPLIT = {"type": "Split", "behavior": "Removed", "invert": False}
TEMPLATE = {"type": "TemplateProcessing", "pair": [], "special_tokens": {}}


@pytest.mark.parametrize(
    "changes",
    [
        {"pre_tokenizer": SPLIT | {"pattern": {"Regex": "(a+)+$"}}},  # tries for ever
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},  # panics
        {"post_processor": TEMPLATE | {"single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}]}},  # panics
        {"model": {"type": "WordLevel", "vocab": {"a": 2**32 - 1}, "unk_token": "[UNK]"}},
        {"model": {"type": "Unigram", "unk_id": None, "vocab": []}},
        {"added_tokens": None},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_tokenizer_that_panics_hangs_or_lacks_a_part(changes: dict[str, Any], tmp_path: Path) -> None:
    tokenizer = json.loads(train_tokenizer(["the film was fine", "the film was dull"], "word", 100).to_str())
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer | changes))
    with pytest.raises(InputError, match=r"tokenizer/tokenizer.json|no tokenizer can be read there"):
        TextEncoder(load_tokenizer(str(tmp_path)), TextPrep())(["the film", "a" * 40 + "!"])


def test_what_a_tokenizer_says_of_the_length_is_not_used(tmp_path: Path) -> None:
    """Some of it would panic, some would take all memory."""
    tokenizer = json.loads(train_tokenizer(["the film was fine", "the film was dull"], "word", 100).to_str())
    tokenizer["truncation"] = {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 5}
    tokenizer["padding"] = {"strategy": {"Fixed": 10**10}, "direction": "Right", "pad_to_multiple_of": None}
    tokenizer["padding"] |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    (ids,) = TextEncoder(load_tokenizer(str(tmp_path)), TextPrep())(["the film"])
    assert len(ids) == 2


def test_a_checkpoint_that_others_could_not_load_is_not_saved(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(b"the one before")
    with pytest.raises(Exception, match="Weights only load failed"):
        WholeCheckpointIO().save_checkpoint({"state": RunsCode(tmp_path / "mark")}, path)
    assert path.read_bytes() == b"the one before"
    assert list(tmp_path.iterdir()) == [path]


def test_eight_runs_at_once(finished: Path, numbers: Numbers) -> None:
    """In one directory tree, from an empty cache, the same seed: eight directories, eight times the same numbers."""
    processes = [kills.start(train, numbers) for _ in range(8)]
    for process in processes:
        process.join()
    runs = [path.parent for path in records.runs_dir().glob("*/*/run.json")]
    assert len(runs) == 9
    for run in runs:
        assert records.load(run)["state"] == "done"
        assert differences(run, finished) == []


@pytest.mark.parametrize(
    ("host", "pid", "silent", "state"),
    [
        ("here", os.getpid(), 0, "running"),
        ("here", 2**22 + 5, 0, "died"),
        ("here", os.getpid(), 400, "died"),
        ("elsewhere", 2**22 + 5, 0, "running"),
        ("elsewhere", os.getpid(), 400, "died"),
    ],
    ids=["alive", "process gone", "its number is another's now", "alive elsewhere", "silent elsewhere"],
)
def test_the_state_is_true(tmp_path: Path, host: str, pid: int, silent: float, state: str) -> None:
    import socket
    import time

    record = {"state": "running", "host": socket.gethostname() if host == "here" else host, "pid": pid}
    (tmp_path / "run.json").write_text(json.dumps(record))
    then = time.time() - silent
    os.utime(tmp_path / "run.json", (then, then))
    assert state_of(tmp_path, record) == state
    for done in ("done", "failed", "interrupted"):
        assert state_of(tmp_path, record | {"state": done}) == done


def test_a_heartbeat_is_a_sign_of_life(tmp_path: Path) -> None:
    with heartbeat(tmp_path, every=0.01):
        deadline = kills.time.monotonic() + 5
        while not (tmp_path / "heartbeat").exists():
            assert kills.time.monotonic() < deadline
        first = (tmp_path / "heartbeat").stat().st_mtime_ns
        while (tmp_path / "heartbeat").stat().st_mtime_ns == first:
            assert kills.time.monotonic() < deadline
    last = (tmp_path / "heartbeat").stat().st_mtime_ns
    kills.time.sleep(0.05)
    assert (tmp_path / "heartbeat").stat().st_mtime_ns == last, "and ends with the run"
