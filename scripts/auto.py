"""Make a good model of any data in a given time: `python scripts/auto.py my.csv --target price --max-time 00:10:00`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.bases.candidates import CANDIDATES
from src import cli

if __name__ == "__main__":
    sys.exit(cli.exit_code(lambda: cli.auto(cli.read_flags(cli.AutoFlags, sys.argv[1:]), CANDIDATES)))
