"""Run experiments: `python scripts/run.py experiments/cats_dogs_finetune.py [flags]`; `--help` shows the flags."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src import cli


def main() -> int:
    """Return 0 if every run is done, 1 if one failed, 130 or 143 if interrupted."""
    command = cli.parse(sys.argv[1:])
    if not (command.flags.resume or command.flags.reproduce or cli.launched()):
        for experiment in command.experiments:
            experiment.check()
    # Imports torch and lightning: only once the command line is known to be right.
    from src.cli import commands

    return commands.run_all(command.experiments, command.flags)


if __name__ == "__main__":
    sys.exit(cli.exit_code(main))
