"""Write a run's model card: `python scripts/card.py runs/<Experiment>/<id> --group town age`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src import cli


def main(flags: cli.CardFlags) -> int:
    if flags.experiment:
        cli.load(str(flags.experiment))  # imported by name, the run finds it
    return cli.card(flags)


if __name__ == "__main__":
    sys.exit(cli.exit_code(lambda: main(cli.read_flags(cli.CardFlags, sys.argv[1:]))))
