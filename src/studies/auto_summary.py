"""What auto says at the end: the leaderboard, what is averaged, and how it is used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from src.configs import shown
from src.resources.files import atomic_write
from src.runs import records, summary
from src.runs.records import Record
from src.studies.attempts import Attempt
from src.studies.trial_lines import setting_value
from src.terminal import console

SHOWN = 10
"""Runs on the leaderboard that are printed."""


def after(record: Record, done: Mapping[Path, Attempt], shares: Mapping[Path, float]) -> None:
    """Write `leaderboard.csv`, and print its head, the ensemble's scores, and how it is used.

    Args:
        record: of the whole.
        done: the runs, the best first.
        shares: of those that are averaged.
    """
    board = leaderboard(record.folder, done, shares)
    atomic_write(record.folder / "leaderboard.csv", board.to_csv(index=False))
    stand_in = "  (on STAND-IN data)" if record["data"]["stand_in"] else ""
    console.title(f"\n{record['reason']}, the best first{stand_in}")
    cells = [[setting_value(cell) for cell in row] for row in board.head(SHOWN).itertuples(index=False)]
    console.table([list(board.columns), *cells])
    count = record["ensemble"]
    console.line("chosen", f"{count} run{'s' * (count > 1)}, averaged by their shares; leaderboard.csv has all runs")
    for split in ("val", "test"):
        found = [f"{name} {shown.metric(of)}" for name, of in record["metrics"].items() if name.startswith(f"{split}/")]
        if found:
            console.line(split, "  ".join(found))
    console.line("time", f"{record['wall_s']:.1f} s of {record['auto']['seconds']:g}")
    console.line("run", str(record.folder))
    for command in summary.predict_files(record, record.folder):
        console.command("next", command)


def leaderboard(folder: Path, done: Mapping[Path, Attempt], shares: Mapping[Path, float]) -> pd.DataFrame:
    """Return for each run its scores, its share, how long it took, how fast it predicts, and its setting."""
    found: list[dict[str, Any]] = []
    for run, attempt in done.items():
        record = records.load(run)
        found.append(
            {
                "run": str(run.relative_to(folder)),
                "loss": attempt.loss,
                record["best"]["name"]: record["best"]["value"],
                "share": shares.get(run, 0.0),
                "folds": len(attempt.folds),
                "fit_s": record["wall_s"],
                "predicted_per_s": record["predicted_per_s"],
                "setting": "  ".join(f"{name} {setting_value(value)}" for name, value in attempt.setting.items()),
            }
        )
    return pd.DataFrame(found)
