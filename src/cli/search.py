"""The command line of search.py, and what it does."""

from __future__ import annotations

import ast
import contextlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from src.cli.parser import given, listing, load, parse_one, recorded, split
from src.configs.changes import with_fields
from src.configs.errors import InputError
from src.configs.search import Choice, Domain, PrunerName, Range, SamplerName, Search, Value
from src.experiment import Experiment
from src.runs import records

SEEDS = 5
"""Of the confirmation, unless given."""
USAGE = """usage: search.py EXPERIMENT.py[:Name] --search FIELD=LOW..HIGH[:log] FIELD=a,b,c ... [flags]
       search.py EXPERIMENT.py:Name [flags]                    where the class has a `search`
       search.py --resume runs/<Experiment>/<id> [--trials N] [flags]
       search.py --join runs/<Experiment>/<id>                 on another machine
--help after an experiment shows its flags"""


@dataclass(frozen=True, kw_only=True)
class SearchFlags:
    """How to search. The fields below hold for all trials, but for --max-time, which is the search's: no trial begins
    after it, and those that run are kept for --resume."""

    search: tuple[str, ...] = ()
    """Fields and their values: optim.lr=1e-4..1e-2:log optim.name=adamw,lion. Takes the place of the class's space."""
    trials: int | None = None
    """Settings to try; with --resume in all."""
    sampler: SamplerName | None = None
    """How settings are drawn: tpe, random, grid, or gp (a Gaussian process). tpe unless the class says otherwise."""
    pruner: PrunerName | None = None
    """Which trials end early: those below the median, those asha does not promote, or none. median unless the class
    says otherwise."""
    workers: int = 1
    """Processes that run trials side by side, and share the processor's cores or have a GPU each."""
    seeds: tuple[int, ...] = ()
    """Seeds over which the best setting and the default are trained, tested and compared at the end. Unless given, the
    five after the search's own."""
    confirm: bool = True
    """Compare them. Without, the test set is not read."""
    earlier: Annotated[tuple[Path, ...], tyro.conf.arg(name="import")] = ()
    """Earlier runs of the experiment, or folders of them, that are trials too; they count apart."""
    resume: Path | None = None
    """Go on with a search, after a kill too, or with more trials."""
    join: Path | None = None
    """Run trials of a search that is running on another machine; its folder must be shared."""
    no_color: bool = False
    """No colours, as with the environment variable NO_COLOR."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise InputError(f"--workers {self.workers}: at least 1.")
        if len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"--seeds {' '.join(map(str, self.seeds))}: the same run twice.")
        if self.seeds and not self.confirm:
            raise InputError("--seeds and --no-confirm: give one of the two.")


@dataclass(frozen=True)
class SearchCommand:
    """A parsed command line."""

    experiment: Experiment
    search: Search
    flags: SearchFlags
    seconds: float | None
    """Of --max-time."""
    before: tuple[int, ...] | None = None
    """Seeds of the confirmation of a search that goes on."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Those of the confirmation."""
        own = self.experiment.seed
        usual = tuple(range(own + 1, own + 1 + SEEDS)) if self.before is None else self.before
        return (self.flags.seeds or usual) if self.flags.confirm else ()


def parse_search(argv: Sequence[str]) -> SearchCommand:
    """Parse the arguments of search.py.

    Raises:
        InputError: an experiment that is not there, a space that cannot be, a flag that contradicts another.
        SystemExit: an unknown flag or value (exit code 2, with a suggestion) or --help (0), from tyro.
    """
    targets, flags = split(argv)
    before = next((recorded(targets, flags, name) for name in ("--resume", "--join") if name in flags), None)
    if before is None and len(targets) != 1:
        if targets:
            raise InputError(f"{' '.join(targets)}: name one experiment, whose settings are to be searched.")
        print(f"{USAGE}\n\n{listing()}")
        raise SystemExit(0 if {"-h", "--help"} & set(flags) else 2)
    default = before or load(targets[0])()
    experiment, own = parse_one(default, SearchFlags(), flags, "search.py")
    seconds = None
    if given(flags, "--max-time") or given(flags, "--max_time"):
        seconds = seconds_of(experiment.max_time)
        experiment = replace(experiment, max_time=default.max_time)
    if experiment.seed in own.seeds:
        raise InputError(f"--seeds {experiment.seed}: the search's own seed, which chose the setting. Give others.")
    if before is None:
        return SearchCommand(experiment, wanted(experiment, own), own, seconds)
    place = own.resume or own.join
    assert place is not None
    if experiment != before:
        raise InputError(f"--resume {place}: goes on with the search's own fields; leave theirs out.")
    now = as_recorded(experiment, own, place)
    return SearchCommand(experiment, now, own, seconds, tuple(records.load(place)["search"].get("seeds", ())))


def wanted(experiment: Experiment, flags: SearchFlags) -> Search:
    """Return the search that flags and class ask for."""
    of_class = type(experiment).search
    if not flags.search and of_class is None:
        name = type(experiment).__name__
        raise InputError(
            f"{name} does not say what is searched. Name fields and their values: --search optim.lr=1e-4..1e-2:log, or "
            f"give {name} a `search`."
        )
    if flags.search:
        return with_flags(Search(space_of(flags.search, experiment)), flags).checked(experiment)
    assert of_class is not None
    return with_flags(of_class, flags).checked(experiment)


def with_flags(search: Search, flags: SearchFlags) -> Search:
    """Return the search with what flags say of it in place of what it says itself."""
    said = {name: getattr(flags, name) for name in ("trials", "sampler", "pruner")}
    return replace(search, **{name: value for name, value in said.items() if value is not None})


def as_recorded(experiment: Experiment, flags: SearchFlags, place: Path) -> Search:
    """Return the search of a record, of more trials where flags say so.

    Raises:
        InputError: the directory is no search, or flags or the class say another space by now.
    """
    record = records.load(place)
    if "search" not in record:
        raise InputError(f"{place}: no search. A run goes on by run.py --resume {place}.")
    then = Search.from_json(record["search"])
    now = then
    if flags.search:
        now = replace(then, space=Search(space_of(flags.search, experiment)).checked(experiment).space)
    elif record["search"].get("of") == "class" and (of_class := type(experiment).search) is not None:
        now = replace(then, space=of_class.space)
    now = with_flags(now, flags)
    if now.trials < then.trials:
        raise InputError(f"--trials {now.trials}: the search is of {then.trials}; give as many or more.")
    if changed := differences(then, now):
        raise InputError(
            f"{place}: trials of another space cannot be compared. {'; '.join(changed)}. Leave it as it was, or start "
            f"a new search with --import {place}."
        )
    return now


def differences(then: Search, now: Search) -> list[str]:
    """Return in what a search is not as it was, but for the number of trials: 'field: then -> now'."""
    spaces = [{name: domain.text() for name, domain in one.space.items()} for one in (then, now)]
    how = [{"sampler": one.sampler, "pruner": one.pruner} for one in (then, now)]
    both = [space | other for space, other in zip(spaces, how, strict=True)]
    texts = [(name, *(one.get(name, "not searched") for one in both)) for name in {**both[0], **both[1]}]
    return [f"{name}: {one} -> {other}" for name, one, other in texts if one != other]


def space_of(texts: Sequence[str], experiment: Experiment) -> dict[str, Domain]:
    """Return the space that --search names.

    Raises:
        InputError: not of the form FIELD=LOW..HIGH[:log] or FIELD=a,b,c.
    """
    space: dict[str, Domain] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.lstrip("-").replace("-", "_")
        if not (name and equals and values):
            raise InputError(f"--search {text}: FIELD=LOW..HIGH, FIELD=LOW..HIGH:log or FIELD=a,b,c.")
        if name in space:
            raise InputError(f"--search {text}: {name} is there twice.")
        space[name] = domain_of(text, name, values, experiment)
    return space


def domain_of(text: str, name: str, values: str, experiment: Experiment) -> Domain:
    """Return the values of a field."""
    if ".." not in values:
        return Choice(values=tuple(value_for(experiment, name, one) for one in values.split(",")))
    found = re.fullmatch(r"(.+?)\.\.(.+?)(:log)?", values)
    try:
        if not found:
            raise ValueError
        return Range(low=number(found[1]), high=number(found[2]), log=found[3] is not None)
    except ValueError:
        raise InputError(f"--search {text}: two numbers, as in {name}=1e-4..1e-2, with :log or without.") from None
    except InputError as error:
        raise InputError(f"--search {text}: {error}") from error


def number(text: str) -> int | float:
    """Return a number, a whole one as an int."""
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)


def value_for(experiment: Experiment, name: str, text: str) -> Value:
    """Return a value that the field can have: as Python reads the text, or the text itself."""
    values: list[Value] = [text]
    with contextlib.suppress(ValueError, SyntaxError):
        values.insert(0, ast.literal_eval({"true": "True", "false": "False"}.get(text, text)))
    for value in values:
        with contextlib.suppress(InputError):
            with_fields(experiment, {name: value})
            return value
    return values[0]  # refused where the space is checked, with the reason


def seconds_of(text: str | None) -> float:
    """Return the seconds of [DD:]HH:MM:SS.

    Raises:
        InputError: it is nothing of the kind.
    """
    found = re.fullmatch(r"(?:(\d+):)?(\d+):(\d\d):(\d\d)", text or "")
    parts = found.groups() if found else ()
    seconds = sum(int(part or 0) * of for part, of in zip(parts, (86400, 3600, 60, 1), strict=bool(parts)))
    if not seconds:
        raise InputError(f"--max-time {text}: hours, minutes and seconds, such as 01:30:00, or days before them.")
    return float(seconds)


def search(command: SearchCommand) -> int:
    """Search, or take part in a search; return the exit code: 0 if it is done, 1 if it failed, 128 + signal."""
    from src.callbacks import Interrupted
    from src.callbacks.graceful_stop import handling, interrupt
    from src.studies import search as studies
    from src.training.failures import explain
    from src.training.trainer import quieten

    quieten()
    flags = command.flags
    options = studies.SearchOptions(
        workers=flags.workers,
        seconds=command.seconds,
        seeds=command.seeds,
        earlier=flags.earlier,
        resume=flags.resume,
    )
    try:
        with handling(interrupt):
            if flags.join:
                studies.join(flags.join, command.experiment)
            else:
                studies.search(command.experiment, command.search, options)
    except Interrupted as stop:
        return stop.exit_code
    except (InputError, OSError) as error:
        print(f"error: {explain(error)}", file=sys.stderr, flush=True)
        return 1
    return 0
