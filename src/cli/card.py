"""What card.py does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from src.cli.parser import NoColor
from src.configs.errors import InputError


@dataclass(frozen=True)
class CardFlags:
    """Write a run's model card, card.md and card.html: data, recipe, scores with intervals, calibration, and what it
    was not tested on. Its front matter is Hugging Face's, so that card.md can be pushed as a README.md."""

    run: tyro.conf.Positional[Path]
    """Run directory, runs/<Experiment>/<id>."""
    group: Annotated[tuple[str, ...], tyro.conf.arg(metavar="COLUMN ...")] = ()
    """Columns of the run's own table: the card has the score of each group of examples, numbers by quartiles. The
    column of --columns.group is always among them."""
    out: Path | None = None
    """Folder for the two files; without it the run directory."""
    data_dir: Path | None = None
    """Where the run's data are now, if they have moved."""
    experiment: Path | None = None
    """The file of the run's experiment, where that is not below experiments/. Its code is run."""
    no_color: NoColor = False
    """No colours, as with the environment variable NO_COLOR."""

    def __post_init__(self) -> None:
        if self.data_dir is not None and not self.data_dir.exists():
            raise InputError(f"--data-dir {self.data_dir}: no such file or folder.")
        if self.out is not None and self.out.exists() and not self.out.is_dir():
            raise InputError(f"--out {self.out}: a file. Name a folder.")


def card(flags: CardFlags) -> int:
    """Write the card and return the exit code."""
    from src.explain.card.write import write
    from src.training.trainer import quieten

    quieten()
    write(flags.run, groups=flags.group, out=flags.out, data_dir=flags.data_dir)
    return 0
