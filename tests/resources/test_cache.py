"""What is made once: whole or not at all, by one process at a time, and without a cache too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import ROOT

from src.configs.errors import InputError
from src.resources.cache import cache_dir, once


def read(path: Path) -> str | None:
    """Return what a file of the cache says; None unless it says the whole of it."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return text if text.endswith(".") else None


def fill(part: Path) -> str:
    part.write_text("made.", encoding="utf-8")
    return "made."


def unused(part: Path) -> str:
    pytest.fail("made a second time")


@pytest.fixture
def path() -> Path:
    return cache_dir() / "some" / "thing.txt"


def left_behind(path: Path) -> list[str]:
    return [other.name for other in path.parent.iterdir() if other.suffix != ".lock"]


def test_what_is_there_is_not_made_again(path: Path) -> None:
    assert once(path, read, fill) == "made."
    assert once(path, read, unused) == "made."
    assert left_behind(path) == ["thing.txt"]


@pytest.mark.parametrize("damage", ["a file", "a folder"])
def test_what_cannot_be_read_is_made_again(path: Path, damage: str) -> None:
    path.parent.mkdir(parents=True)
    if damage == "a file":
        path.write_text("ma", encoding="utf-8")
    else:
        (path / "inside").mkdir(parents=True)
    assert once(path, read, fill) == "made."
    assert path.read_text(encoding="utf-8") == "made."


def test_folders_appear_whole(path: Path) -> None:
    def fill_folder(part: Path) -> str:
        (part / "inside").mkdir(parents=True)
        assert not path.exists()
        return "a folder"

    assert once(path, lambda path: "a folder" if path.is_dir() else None, fill_folder) == "a folder"
    assert [found.name for found in path.iterdir()] == ["inside"]


@pytest.mark.parametrize("error", [InputError("line 3 is broken"), KeyboardInterrupt()])
def test_a_filling_that_breaks_off_leaves_nothing(path: Path, error: BaseException) -> None:
    def broken(part: Path) -> str:
        part.write_text("half", encoding="utf-8")
        raise error

    with pytest.raises(type(error)):
        once(path, read, broken)
    assert left_behind(path) == []
    assert once(path, read, fill) == "made.", "nor a lock that is held"


KILLED = """
import sys, time
from pathlib import Path
from src.resources.cache import once

def fill(part):
    part.write_text("made.")
    print("half", flush=True)
    time.sleep(60)

once(Path(sys.argv[1]), lambda path: path.read_text() if path.exists() else None, fill)
"""


def test_what_a_killed_process_left_is_not_taken_for_whole(path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert left_behind(path) == ["thing.txt.part"]
    assert once(path, read, fill) == "made."
    assert left_behind(path) == ["thing.txt"]


def test_of_two_that_ask_at_once_one_waits(path: Path) -> None:
    started, fills = threading.Barrier(2), []

    def slowly(part: Path) -> str:
        fills.append(part)
        time.sleep(0.2)
        return fill(part)

    def ask(_: int) -> str:
        started.wait()
        return once(path, read, slowly)

    with ThreadPoolExecutor(2) as pool:
        assert [*pool.map(ask, range(2))] == ["made.", "made."]
    assert len(fills) == 1


def test_colleagues_may_read_it(path: Path) -> None:
    once(path, read, fill)
    (path.parent / "plain").touch()
    assert path.stat().st_mode == (path.parent / "plain").stat().st_mode


def test_without_a_cache_the_fallback_is_taken_and_said(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache_dir().mkdir(parents=True)
    path.parent.write_text("no folder")
    assert once(path, read, unused, fallback=lambda: "computed.", so="it is computed each time") == "computed."
    out = capsys.readouterr().out
    assert f"CACHE      {path.parent} cannot be written (File exists): it is computed each time. Free some space" in out
    assert out.count("\n") == 1


def test_without_a_cache_and_a_fallback_the_way_out_is_said(path: Path) -> None:
    def full(part: Path) -> str:
        raise OSError(28, os.strerror(28))

    with pytest.raises(InputError, match=rf"^{path}: cannot be kept \(No space left on device\)\. .*LEYDEN_CACHE"):
        once(path, read, full)
    assert left_behind(path) == []
