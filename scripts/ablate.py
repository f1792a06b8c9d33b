"""See what each part of a recipe is worth: `python scripts/ablate.py experiments/digits.py --without shift`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src import cli


def main() -> int:
    """Return 0 if every run is done, 1 if one failed, 130 or 143 if interrupted."""
    asked, flags = cli.parse_ablate(sys.argv[1:])
    if not flags.resume:
        asked.recipe.check()
    return cli.ablate(asked, flags)


if __name__ == "__main__":
    sys.exit(cli.exit_code(main))
