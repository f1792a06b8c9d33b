"""Check an experiment's data: `python scripts/check_data.py experiments/cats_dogs_finetune.py [flags] [--fix]`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src import cli


def main() -> int:
    """Return 0 if nothing makes a score wrong, 1 if something does (--strict: any finding)."""
    target, experiment, flags = cli.parse_check(sys.argv[1:])
    experiment.check()
    # Imports torch and lightning: only once the command line is known to be right.
    from src.cli import data_check

    return data_check.check_data(experiment, flags, target)


if __name__ == "__main__":
    sys.exit(cli.exit_code(main))
