"""Search the best settings: `python scripts/search.py experiments/digits.py --search optim.lr=1e-4..1e-2:log`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src import cli


def main() -> int:
    """Return 0 if the search is done, 1 if it failed, 130 or 143 if interrupted."""
    command = cli.parse_search(sys.argv[1:])
    if not (command.flags.resume or command.flags.join):
        command.experiment.check()
    return cli.search(command)


if __name__ == "__main__":
    sys.exit(cli.exit_code(main))
