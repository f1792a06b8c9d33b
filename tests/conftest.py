"""Shared fixtures: the checkout's own caches, runs and data are neither read nor written, and there is no network."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="leyden-no-hub-")  # read once, at the hub library's import
os.environ["HTTPS_PROXY"] = "http://127.0.0.1:9"  # a closed port: whoever asks for the network is told no at once

from src.datamodules.drawn import draw_folder

ROOT = Path(__file__).resolve().parents[1]
TINY = ("--image-size", "32", "--max-epochs", "1", "--limit-train-batches", "2", "--batch-size", "4")
"""Flags that make any image experiment run in seconds."""


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder {train,val,test}/{cat,dog} of 24, 8 and 8 drawn pictures; not to be changed."""
    folder = tmp_path_factory.mktemp("data") / "pictures"
    draw_folder(folder, train=24, val=8, test=8)
    return folder


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs and caches go to the test's own folder."""
    monkeypatch.setenv("LEYDEN_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("LEYDEN_CACHE", str(tmp_path / "cache"))


Script = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def script() -> Script:
    """Run a command as a user would, in a process of its own: script('run.py', 'experiments/images.py')."""

    def call(name: str, *args: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, ROOT / "scripts" / name, *map(str, args)],
            cwd=ROOT,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return call
