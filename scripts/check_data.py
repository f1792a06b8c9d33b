"""Check an experiment's data: `python scripts/check_data.py experiments/cats_dogs_finetune.py [flags] [--fix]`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src import cli
from src.experiment import InputError


def main() -> int:
    """Return 0 if nothing makes a score wrong, 1 if something does (--strict: any finding), 2 for bad input."""
    cli.prepare_terminal()
    try:
        target, experiment, flags = cli.parse_check(sys.argv[1:])
        experiment.check()
        # Imports torch and lightning: only once the command line is known to be right.
        from src.cli import data_check

        return data_check.check_data(experiment, flags, target)
    except InputError as error:
        return cli.fail(error)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
