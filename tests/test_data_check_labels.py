"""Checks of data with several labels an example: each label is looked at by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.tables import TableMultiLabel
from src.cli.data_check import check_data
from src.cli.parser import CheckFlags

pytestmark = pytest.mark.usefixtures("quiet")


def check(tmp_path: Path, frame: pd.DataFrame) -> dict[str, Any]:
    frame.to_csv(tmp_path / "x.csv", index=False)
    experiment = TableMultiLabel(data_dir=tmp_path / "x.csv", target=("warm", "wet", "rare"), accelerator="cpu")
    check_data(experiment, CheckFlags(json=tmp_path / "report.json"), "experiments/x.py")
    return json.loads((tmp_path / "report.json").read_text())


@pytest.fixture(scope="module")
def days() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(400, 3)).round(4), columns=["south", "west", "cloud"])
    frame["warm"] = (frame["south"] + frame["west"] + 0.3 * frame["cloud"] > 0).astype(int)
    frame["wet"] = (frame["cloud"] - frame["west"] > 0.4).astype(int)
    frame["rare"] = [int(row in (0, 100, 200, 300)) for row in range(400)]
    return frame


def test_a_column_that_gives_one_label_away_is_found(tmp_path: Path, days: pd.DataFrame) -> None:
    titles = [finding["title"] for finding in check(tmp_path, days)["findings"]]
    assert not [title for title in titles if "gives label" in title]
    report = check(tmp_path, days.assign(umbrella=days["wet"] * 2.5 - 1))
    (leak,) = [finding for finding in report["findings"] if "gives label" in finding["title"]]
    assert leak["title"].startswith("column umbrella alone gives label wet away")
    assert leak["wrong"]


def test_a_swapped_label_and_a_rare_one_are_found(tmp_path: Path, days: pd.DataFrame) -> None:
    frame = days.copy()
    row = int(frame["south"].abs().argmax())  # far from the border
    frame.loc[row, "warm"] = int(days["warm"].iloc[row] == 0)
    report = check(tmp_path, frame)
    (doubted,) = [one for one in report["findings"] if one["title"].startswith("label warm: labels that are likely")]
    said = "no warm, looks like warm" if days["warm"].iloc[row] else "warm, looks like no warm"
    assert [example for example in doubted["examples"] if f" {row} labelled {said}" in example]
    assert any(title["title"].startswith("labels with fewer than 20 examples in train") for title in report["findings"])
    assert any(said.startswith("label wet: labels:") for said in report["checked"])
