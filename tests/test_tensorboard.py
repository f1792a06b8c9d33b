"""TensorBoard in a real browser: three real runs of two kinds side by side, in the curves and in the HPARAMS table."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Chromium, chromium_or_skip

from experiments.tables import TableClassification, TableRegression
from src.runs import records
from src.training import runner
from src.training.trainer import quieten

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of the pipes of a server that is ended
]


@pytest.fixture
def three(houses: Path) -> list[Path]:
    """Two seeds of a classification, and a regression: their fields and metrics are not the same."""
    quieten()
    kinds = [TableClassification(data_dir=houses, target="size", max_epochs=3, seed=seed) for seed in (0, 1)]
    return [runner.run(asked) for asked in (*kinds, TableRegression(data_dir=houses, target="price", max_epochs=3))]


@pytest.fixture
def board(three: list[Path]) -> Iterator[str]:
    """The address of a TensorBoard over the runs, started as summary.after tells the user to."""
    command = [Path(sys.executable).with_name("tensorboard"), "--logdir", three[0].parents[1], "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert server.stderr
    try:
        found = next((at for line in server.stderr if (at := re.search(r"at (http://\S+)", line))), None)
        assert found, "TensorBoard did not start"
        yield found[1].replace("localhost", "127.0.0.1")
    finally:
        server.terminate()
        server.wait(30)
        server.stderr.close()


def test_curves_and_hparams_show_every_run(board: str, three: list[Path], tmp_path: Path) -> None:
    chromium_or_skip()
    names = [str(run.relative_to(run.parents[1])) for run in three]
    with Chromium(tmp_path / "profile-0", width=1400, height=1000) as browser:
        browser.open(board)
        text = browser.wait_for(*names, "train /loss", "visuals")
        groups = re.findall(r"(\w+) \d+ cards", text)
        assert groups == ["train", "val", "visuals"], "curves come first, and nothing of one point"
        print("kept", browser.screenshot(tmp_path / "first.png"))
    with Chromium(tmp_path / "profile", width=1400, height=1000) as browser:
        browser.open(f"{board}?tagFilter=^(train|val)/(loss|acc)$#timeseries")
        browser.wait_for(
            *names, "train /loss", "val /loss", "train /acc", "val /acc", "4 cards"
        )  # the last part is an element of its own
        print("kept", browser.screenshot(tmp_path / "scalars.png"))
    with Chromium(tmp_path / "profile-2", width=4200, height=1000) as browser:
        browser.open(f"{board}#hparams")
        text = browser.wait_for(*names, "best/val/acc", "best/val/rmse", "val/acc", "weights_source")
        for run in three[:2]:  # the table begins with five fields; the regression's are ticked in the list beside it
            assert f"{records.load(run)['metrics']['val/acc']:#.5g}" in text, text
        print("kept", browser.screenshot(tmp_path / "hparams.png"))
