"""Run on several processes or machines: `python scripts/launch.py local experiments/digits.py --processes 2`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src import cli


def main() -> int:
    """Return the exit code of the run, or 0 when it is submitted."""
    return cli.launch(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(cli.exit_code(main))
