"""What ablate.py does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from src.cli.parser import given, listing, parse_one, recorded, split
from src.configs.errors import InputError
from src.loading import load
from src.runs import records
from src.studies.ablation.design import Ablation

USAGE = """usage: ablate.py EXPERIMENT.py[:Name] --without FIELD ... [flags]      --help after one shows its flags
       ablate.py --resume runs/<Experiment>/<id> [--test]"""


@dataclass(frozen=True, kw_only=True)
class AblateFlags:
    """What to leave out of the recipe, which the fields below say."""

    without: tuple[str, ...] = ()
    """Fields to leave out one at a time, as optim.warmup: a switch is off, a number 0, a choice none. optim.name=sgd
    names the value."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Run the full recipe and each variant once a seed. Three or more give intervals."""
    pairs: bool = False
    """Leave out each two together as well."""
    test: bool = False
    """Compare by the test metric too; each run's record counts it."""
    resume: Path | None = None
    """Go on with an ablation in its own directory: what is done stays, what failed is tried again."""
    no_color: bool = False
    """No colours, as with the environment variable NO_COLOR."""


def parse_ablate(argv: Sequence[str]) -> tuple[Ablation, AblateFlags]:
    """Parse the arguments of ablate.py: what to leave out of which recipe, and how to run it.

    Raises:
        InputError: a field that is not there or cannot be left out, or a flag that contradicts another.
        SystemExit: an unknown flag or value (exit code 2, with a suggestion) or --help (0), from tyro.
    """
    targets, flags = split(argv)
    if "--resume" in flags:
        return _parse_resume(targets, flags)
    if not targets:
        print(f"{USAGE}\n\n{listing()}")
        raise SystemExit(0 if {"-h", "--help"} & set(flags) else 2)
    if len(targets) > 1:
        raise InputError(f"{' '.join(targets)}: name one experiment, the full recipe.")
    recipe, own = parse_one(load(targets[0])(), AblateFlags(), flags, f"ablate.py {targets[0]}")
    if given(flags, "--seed"):
        raise InputError("--seed: an ablation has several. --seeds 0 1 2")
    return Ablation(recipe, own.without, own.seeds, own.pairs), own


def _parse_resume(targets: Sequence[str], flags: list[str]) -> tuple[Ablation, AblateFlags]:
    """`[EXPERIMENT] --resume RUN [--test]`: all else is the ablation's own."""
    before = recorded(targets, flags, "--resume")
    recipe, own = parse_one(before, AblateFlags(), flags, "ablate.py")
    assert own.resume is not None
    if "ablation" not in (record := records.load(own.resume)):
        raise InputError(f"--resume {own.resume}: no ablation. run.py --resume goes on with other runs.")
    if recipe != before or replace(own, resume=None, test=False, no_color=False) != AblateFlags():
        raise InputError(
            "--resume goes on with the ablation's own fields and seeds; of the other flags --test goes with it."
        )
    return Ablation.of(recipe, record), own


def ablate(asked: Ablation, flags: AblateFlags) -> int:
    """Run the ablation; return the exit code: 0 if all runs are done, 1 if one failed, 128 + signal if interrupted."""
    from src.callbacks import Interrupted
    from src.callbacks.graceful_stop import handling, interrupt
    from src.studies.ablation import ablate
    from src.training.options import RunOptions
    from src.training.trainer import quieten

    quieten()
    with handling(interrupt):
        try:
            folder = ablate.ablate(asked, RunOptions(test=flags.test, resume=flags.resume))
        except Interrupted as stop:
            return stop.exit_code
    return 1 if records.load(folder)["ablation"]["failed"] else 0
