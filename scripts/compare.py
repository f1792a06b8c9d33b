"""Compare runs: `python scripts/compare.py runs`; two of them in full: `python scripts/compare.py diff RUN RUN`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tyro

from src import cli

Runs = tyro.conf.Positional[tuple[Path, ...]]


def compare(runs: Runs = (), csv: Path | None = None, json: Path | None = None, html: Path | None = None) -> int:
    """Compare runs, grouped over seeds; `compare.py diff RUN RUN` shows everything in which two runs differ.
    Both take --no-color, which does what the environment variable NO_COLOR does.

    Args:
        runs: Run directories, or folders to search for them; by default all runs.
        csv: File for the groups with all metrics.
        json: File for all of it: settings, metrics and runs of each group.
        html: File for a page that opens without network: learning curves, per-class tables, paired bootstrap too.
    """
    from src.runs.compare import command

    return command.write(runs, csv=csv, json=json, html=html)


def diff(first: tyro.conf.Positional[Path], second: tyro.conf.Positional[Path]) -> int:
    """Show the fields, code, data, weights, versions and metrics in which two runs differ, and a paired bootstrap."""
    from src.runs.compare import difference

    return difference.show(first, second)


if __name__ == "__main__":
    sys.exit(cli.exit_code(lambda: cli.call({"diff": diff}, compare)))
