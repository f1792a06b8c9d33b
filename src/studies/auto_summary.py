"""What auto says at the end: the leaderboard, what is averaged, and how it is used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from src.configs import shown
from src.resources.files import atomic_write
from src.runs import records, summary
from src.runs.records import Record
from src.studies.trial_lines import setting_value
from src.terminal import console

SHOWN = 10
"""Runs on the leaderboard that are printed."""


class Row(NamedTuple):
    """A run on the leaderboard."""

    run: Path
    share: float
    """In the ensemble."""
    setting: dict[str, Any]
    """Fields that are not as the experiment has them."""
    loss: float
    """On the validation split."""


def after(record: Record, rows: Sequence[Row]) -> None:
    """Write `leaderboard.csv`, and print its head, the ensemble's scores, and how it is used.

    Args:
        record: of the whole.
        rows: the runs, the best first.
    """
    board = leaderboard(record.folder, rows)
    atomic_write(record.folder / "leaderboard.csv", board.to_csv(index=False))
    stand_in = "  (on STAND-IN data)" if record["data"]["stand_in"] else ""
    console.title(f"\n{record['reason']}, the best first{stand_in}")
    cells = [[setting_value(cell) for cell in row] for row in board.head(SHOWN).itertuples(index=False)]
    console.table([list(board.columns), *cells])
    count = record["ensemble"]
    console.line("chosen", f"{count} run{'s' * (count > 1)}, averaged by their shares; leaderboard.csv has all runs")
    scores(record, "val")
    console.line("time", f"{record['wall_s']:.1f} s of {record['auto']['seconds']:g}")
    console.line("run", str(record.folder))
    for command in summary.predict_files(record, record.folder):
        console.command("next", command)


def scores(record: Record, split: str) -> None:
    """Print the ensemble's metrics of a split."""
    found = {name: value for name, value in record["metrics"].items() if name.startswith(f"{split}/")}
    console.line(split, "  ".join(f"{name} {shown.metric(value)}" for name, value in found.items()))


def leaderboard(folder: Path, rows: Sequence[Row]) -> pd.DataFrame:
    """Return for each run its scores, its share, how long it took, how fast it predicts, and its setting."""
    found: list[dict[str, Any]] = []
    for row in rows:
        record = records.load(row.run)
        found.append(
            {
                "run": str(row.run.relative_to(folder)),
                "loss": row.loss,
                record["best"]["name"]: record["best"]["value"],
                "share": row.share,
                "fit_s": record["wall_s"],
                "predicted_per_s": record["predicted_per_s"],
                "setting": "  ".join(f"{name} {setting_value(value)}" for name, value in row.setting.items()),
            }
        )
    return pd.DataFrame(found)
