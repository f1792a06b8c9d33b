"""The command line of auto.py, and what it does."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from src.cli.parser import NoColor
from src.cli.search import seconds_of
from src.configs.changes import with_fields
from src.configs.errors import InputError
from src.configs.spec import TargetKind
from src.experiment import Experiment

if TYPE_CHECKING:
    from src.studies.any_data import AnyData

BEGAN = time.time()
Candidates = Mapping[str, Sequence[type[Experiment]]]
"""What the inputs are -> what is tried."""


@dataclass(frozen=True)
class AutoFlags:
    """Make a good model of any data in a given time: try models and settings, and average the best."""

    data: tyro.conf.Positional[Path]
    """A table (CSV, TSV, JSON lines, Parquet) of rows, of texts, or of paths of images; a folder of train, and maybe
    val and test, tables; or class folders of images."""
    target: tuple[str, ...] = ()
    """Column to predict; several are a label each. Not needed where it is called target, label, labels or class."""
    max_time: str = "00:10:00"
    """[DD:]HH:MM:SS for all but --test."""
    input: Literal["image", "text", "table"] | None = None
    """What the inputs are, where they are not what they look like."""
    predicts: TargetKind | None = None
    """What the target is: one class, several labels or a number."""
    column: Annotated[str, tyro.conf.arg(metavar="NAME")] = ""
    """Of the texts, or of the paths of images."""
    test: bool = False
    """Read the test split once at the end, with what was chosen."""
    seed: int = 0
    """Seeds every run."""
    no_color: NoColor = False
    """No colours, as with the environment variable NO_COLOR."""


def auto(flags: AutoFlags, candidates: Candidates) -> int:
    """Look at the data, try models, and return the exit code: 0 if there is a model, 128 + signal if interrupted."""
    seconds = seconds_of(flags.max_time)
    from src.callbacks import Interrupted
    from src.callbacks.graceful_stop import handling, interrupt
    from src.studies import any_data
    from src.studies import auto as studies
    from src.terminal import console
    from src.training.trainer import quieten

    quieten()
    found = any_data.look_at(flags.data, flags.target, input=flags.input, predicts=flags.predicts, column=flags.column)
    for reason in found.reasons:
        console.line("data", reason)
    try:
        with handling(interrupt):
            studies.auto(suited(candidates, found, flags.seed), seconds, began=BEGAN, test=flags.test)
    except Interrupted as stop:
        return stop.exit_code
    return 0


def suited(candidates: Candidates, found: AnyData, seed: int) -> list[Experiment]:
    """Return the experiments that predict what is wanted, with the data in their fields.

    Raises:
        InputError: there is none.
    """
    there = [kind for kind in candidates[found.input] if getattr(kind, "predicts", None) == found.predicts]
    if not there:
        raise InputError(f"{found.path}: nothing among the candidates predicts {found.predicts} of a {found.input}.")
    return [with_data(kind(seed=seed, data_dir=found.path), found) for kind in there]


def with_data(experiment: Experiment, found: AnyData) -> Experiment:
    """Return an experiment with the columns of its data."""
    changes: dict[str, Any] = {}
    several = found.predicts == "multi_label" and found.input != "text"
    if found.target:
        name = "label_column" if hasattr(experiment, "label_column") else "target"
        changes[name] = found.target if several else found.target[0]
    if found.column:
        changes["text_column" if found.input == "text" else "path_column"] = found.column
    return with_fields(experiment, changes)
