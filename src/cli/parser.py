"""The command line of run.py: which experiments, which run flags, and every field as a flag."""

from __future__ import annotations

import ast
import contextlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, make_dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from src.configs.errors import InputError
from src.configs.training import Accelerator
from src.experiment import Experiment
from src.loading import load, others_beside
from src.resources import files
from src.runs import records
from src.terminal import streams

Flags = TypeVar("Flags")
NoColor = tyro.conf.FlagCreatePairsOff[bool]
USAGE = """usage: run.py EXPERIMENT.py[:Name] ... [flags]      --help after an experiment shows its flags
       run.py --resume runs/<Experiment>/<id> [flags]
       run.py --reproduce runs/<Experiment>/<id> [--test]"""


@dataclass(frozen=True, kw_only=True)
class RunFlags:
    """How to run; the fields below say what."""

    seeds: tuple[int, ...] = ()
    """Run each experiment once a seed, instead of the one --seed."""
    test: bool = False
    """Read the test set once, with the best checkpoint; the record counts it."""
    folds: int | None = None
    """Cross-validate: train once a fold on the rest, and give the mean, the spread and out-of-fold predictions."""
    ensemble: int | None = None
    """Train so many members, with seeds from --seed on, and average what they predict."""
    baselines: bool = False
    """Fit scikit-learn's baselines to the same split, and show them beside the run."""
    dry_run: bool = False
    """Show the resolved plan, train nothing."""
    checkpoint_every: str = "10min"
    """Save within an epoch too, after so many steps (500) or minutes (10min)."""
    reproduce: Path | None = None
    """Run a finished run again, with its fields and seed on its data, and say whether the numbers are the same."""
    resume: Path | None = None
    """Go on with an interrupted run in its own directory; with --test, test a finished one."""
    no_color: bool = False
    """No colours, as with the environment variable NO_COLOR."""

    def __post_init__(self) -> None:
        for name, count in (("folds", self.folds), ("ensemble", self.ensemble)):
            if count is not None and count < 2:
                raise InputError(f"--{name} {count}: at least 2.")
        if self.folds and self.ensemble:
            raise InputError("--folds and --ensemble: give one of the two.")


@dataclass(frozen=True, kw_only=True)
class CheckFlags:
    """What to do with what is found."""

    fix: bool = False
    """Write a list of what to leave out; `--quarantine` of run.py reads it. Data files are never touched."""
    list: Path = Path("quarantine.csv")
    """The file that --fix writes."""
    json: Path | None = None
    """Write the report here too."""
    strict: bool = False
    """Exit code 1 for warnings too."""
    no_color: bool = False
    """No colours, as with the environment variable NO_COLOR."""


@dataclass(frozen=True)
class Command:
    """A parsed command line: what to run, each with its seed in place."""

    experiments: list[Experiment]
    flags: RunFlags


@dataclass(frozen=True)
class PredictFlags:
    """Write `id,label,prob_<class>...,error` for every input, in order; what cannot be read is a row with its error. A
    table's own column `id`, in any case, is the id and keeps its name. Cells are written as they are: import the CSV
    into a spreadsheet as text, which otherwise runs those that begin with = + - @."""

    run: tyro.conf.Positional[Path]
    """Run directory, runs/<Experiment>/<id>, or its export."""
    inputs: tyro.conf.Positional[tuple[Path, ...]]
    """Images, folders of them, or tables that name them; for texts tables (CSV, JSON lines, Parquet), .txt, or - for
    stdin."""
    out: Path | None = None
    """CSV to write; without it the rows are printed."""
    experiment: Path | None = None
    """The file of the run's experiment, where that is not below experiments/. Its code is run."""
    accelerator: Accelerator = "auto"
    """Device to run on."""
    calibrate: bool = True
    """Scale probabilities by the temperature found on validation data; no label changes."""
    threshold: bool = False
    """Of two classes, decide by the threshold found on validation data, not for the more likely one."""
    no_color: NoColor = False
    """No colours, as with the environment variable NO_COLOR."""


def parse(argv: Sequence[str]) -> Command:
    """Parse the arguments of run.py.

    Raises:
        InputError: an experiment that is not there, a flag that contradicts another.
        SystemExit: an unknown flag or value (exit code 2, with a suggestion) or --help (0), from tyro.
    """
    targets, flags = split(argv)
    if "--reproduce" in flags:
        return _parse_reproduce(targets, flags)
    if "--resume" in flags:
        return _parse_resume(targets, flags)
    if not targets:
        print(f"{USAGE}\n\n{listing()}")
        raise SystemExit(0 if {"-h", "--help"} & set(flags) else 2)
    if given(flags, "--seed") and given(flags, "--seeds"):
        raise InputError("--seed and --seeds: give one of the two.")
    parsed = [parse_one(load(target)(), RunFlags(), flags, f"run.py {target}") for target in targets]
    run_flags = parsed[0][1]
    apart = run_flags.ensemble or 1  # members have the seeds from a run's own on
    for one, next_ in pairwise(sorted(run_flags.seeds)):
        if next_ - one < apart:
            what = f"ensembles of {apart} would share members" if apart > 1 else "the same run twice"
            raise InputError(f"--seeds {one} {next_}: {what}. Give seeds that are at least {apart} apart.")
    return Command([replace(e, seed=seed) for e, _ in parsed for seed in run_flags.seeds or (e.seed,)], run_flags)


def parse_check(argv: Sequence[str]) -> tuple[str, Experiment, CheckFlags]:
    """Parse the arguments of check_data.py: the experiment as named, itself, and the flags; errors as for `parse`."""
    targets, flags = split(argv)
    if len(targets) != 1:
        if targets:
            raise InputError(f"{' '.join(targets)}: name one experiment, whose data are to be checked.")
        print(f"usage: check_data.py EXPERIMENT.py[:Name] [flags]\n\n{listing()}")
        raise SystemExit(0 if {"-h", "--help"} & set(flags) else 2)
    experiment, own = parse_one(load(targets[0])(), CheckFlags(), flags, f"check_data.py {targets[0]}")
    if own.fix and own.list.exists() and own.list != experiment.quarantine:
        raise InputError(
            f"--list {own.list}: there already. To add to it, --quarantine {own.list}; else name another file."
        )
    return targets[0], experiment, own


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split into the experiments, which come first, and the flags. A glob's `__init__.py` is no experiment."""
    first = next((i for i, arg in enumerate(argv) if arg.startswith("-")), len(argv))
    flags = [part for flag in argv[first:] for part in _apart(flag)]
    return [arg for arg in argv[:first] if Path(arg).name != "__init__.py"], flags


def _apart(flag: str) -> list[str]:
    return flag.split("=", 1) if flag.startswith(("--resume=", "--reproduce=", "--join=")) else [flag]


def given(flags: Sequence[str], name: str) -> bool:
    return any(flag == name or flag.startswith(f"{name}=") for flag in flags)


def parse_one(default: Experiment, own: Flags, flags: Sequence[str], prog: str) -> tuple[Experiment, Flags]:
    """Parse fields and the script's own flags together; `name=""` joins the two groups without a prefix."""
    kind: Any = type(default)
    of_script: Any = type(own)
    bare = tyro.conf.arg(name="")
    joint = make_dataclass(
        "Flags",
        [
            ("own", Annotated[tyro.conf.FlagCreatePairsOff[of_script], bare], own),
            ("experiment", Annotated[kind, bare], default),
        ],
        frozen=True,
    )
    found: Any = read_flags(joint, flags, prog=prog, description=_description(kind), own=default == kind())
    return found.experiment, found.own


def _description(kind: type[Experiment]) -> str:
    """Return what --help says first: the experiment's docstring, and what else is in its file."""
    text = inspect.getdoc(kind) or ""
    others = others_beside(kind)
    return f"{text}\n\nAlso in this file, as FILE:Name: {', '.join(others)}." if others else text


def _parse_resume(targets: Sequence[str], flags: list[str]) -> Command:
    """`[EXPERIMENT] --resume RUN [flags]`: the run's own experiment and fields, changed by the flags given."""
    before = recorded(targets, flags, "--resume")
    experiment, run_flags = parse_one(before, RunFlags(), flags, "run.py")
    if run_flags.seeds or experiment.seed != before.seed:
        raise InputError("--resume goes on with the run's own seed; leave --seed and --seeds out.")
    if run_flags.folds is not None:
        raise InputError("--resume goes on with the run's own folds, if it has any; leave --folds out.")
    if run_flags.ensemble is not None:
        raise InputError("--resume goes on with the run's own members, if it has any; leave --ensemble out.")
    return Command([experiment], run_flags)


def _parse_reproduce(targets: Sequence[str], flags: list[str]) -> Command:
    """`[EXPERIMENT] --reproduce RUN`: the run's own experiment and fields, and no others."""
    before = recorded(targets, flags, "--reproduce")
    experiment, run_flags = parse_one(before, RunFlags(), flags, "run.py")
    if run_flags.seeds or run_flags.folds or run_flags.ensemble or run_flags.resume or experiment != before:
        raise InputError("--reproduce takes every field from the run; of the other flags only --test goes with it.")
    return Command([experiment], run_flags)


def recorded(targets: Sequence[str], flags: list[str], name: str) -> Experiment:
    """Return the experiment of the run that the flag names, with its fields; its file is imported if it is named."""
    at = flags.index(name)
    if at + 1 == len(flags):
        raise InputError(f"{name}: name the run directory, runs/<Experiment>/<id>.")
    named = [load(target) for target in targets]
    before = experiment_of(Path(flags[at + 1]))
    if named not in ([], [type(before)]):
        raise InputError(f"{name}: that is a run of {before.dotted_name()}, not of {', '.join(targets)}.")
    return before


def experiment_of(run: Path) -> Experiment:
    """Return the experiment of a run, with its fields.

    Raises:
        InputError: the directory is no run, or one of other code.
    """
    record = records.load(run)
    with records.explain_record_errors(run, record):
        return load(record["experiment"]).from_json(record["fields"])


def listing() -> str:
    """Return a line for each experiment file: its docstring's first line, read without importing it."""
    lines = []
    for path in sorted((files.ROOT / "experiments").glob("*.py")):
        if path.name != "__init__.py":
            try:
                title = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
            except SyntaxError as error:
                title = f"(line {error.lineno}: {error.msg})"
            lines.append(f"  experiments/{path.name:<24} {title}")
    return "experiments:\n" + "\n".join(lines)


def read_flags(
    kind: type[Flags], args: Sequence[str], *, prog: str | None = None, description: str | None = None, own: bool = True
) -> Flags:
    """Return what tyro makes of the arguments.

    It writes escape codes of its own where there can be none of others: `own` says that the defaults are of this
    checkout and not of a run's record.
    """
    coloured = own and not os.environ.get("NO_COLOR") and all(arg == streams.escaped(arg) for arg in args)
    tyro._experimental_options["ansi_codes"] = coloured
    with streams.unguarded() if coloured else contextlib.nullcontext():
        return tyro.cli(kind, args=args, prog=prog or Path(sys.argv[0]).name, description=description)


def launched() -> bool:
    """Return whether a launcher has started this process beside others: the run says what is wrong with one, once."""
    return bool({"RANK", "NODE_RANK", "SLURM_PROCID"} & os.environ.keys())


def exit_code(command: Callable[[], int]) -> int:
    """Call what a script does and return its exit code: 2, and no traceback, for an error that the user can put right;
    130 for Ctrl-C."""
    streams.choose_colours(sys.argv[1:])
    streams.guard_streams()
    try:
        return command()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def call(commands: Mapping[str, Callable[..., int]], default: Callable[..., int]) -> int:
    """Call the command that the first argument names, else `default`, with the flags made of its parameters, and
    `--no-color`."""
    args = [arg for arg in sys.argv[1:] if arg not in streams.NO_COLOR]
    name = args[0] if args and args[0] in commands else ""
    program = Path(sys.argv[0]).name
    tyro._experimental_options["ansi_codes"] = False  # the command itself is called from within tyro
    if name:
        return tyro.cli(commands[name], prog=f"{program} {name}", args=args[1:])
    return tyro.cli(default, prog=program, args=args)
