"""Explain a run's answers: `python scripts/explain.py runs/<Experiment>/<id> photo.jpg folder/ --out why.html`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src import cli


def main(flags: cli.ExplainFlags) -> int:
    if flags.experiment:
        cli.load(str(flags.experiment))  # imported by name, the run finds it
    return cli.explain(flags)


if __name__ == "__main__":
    sys.exit(cli.exit_code(lambda: main(cli.read_flags(cli.ExplainFlags, sys.argv[1:]))))
