"""The run directory: made, written and read. Every file but the append-only metrics is written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack

from typing_extensions import override

from src.configs.errors import InputError
from src.configs.jsonable import from_json
from src.configs.spec import DataSpec
from src.experiment import Experiment
from src.resources.files import atomic_write, write_json
from src.runs import state
from src.runs.provenance import git_state, versions
from src.runs.values import Values


def runs_dir() -> Path:
    """Return the folder that holds the runs: LEYDEN_RUNS, else `runs` of the working directory."""
    return Path(os.environ.get("LEYDEN_RUNS") or "runs")


def create(name: str) -> Path:
    """Make a new directory `runs/<name>/<time>-<random>` that no other run can have, and return it."""
    while True:
        stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
        run = runs_dir() / name / stamp
        try:
            run.parent.mkdir(parents=True, exist_ok=True)
            run.mkdir()
        except OSError as error:
            if isinstance(error, FileExistsError) and run.is_dir():  # another run's, of the same second
                continue
            raise InputError(
                f"{run}: cannot make the run directory ({error.strerror}). Set LEYDEN_RUNS to another folder."
            ) from error
        return run


def head(requested: Experiment, resolved: Experiment) -> Values:
    """Return the first part of a record: what runs, and which requested fields had to be replaced."""
    fields, wanted = resolved.to_json(), requested.to_json()
    return {
        "experiment": resolved.dotted_name(),
        "fields": fields,
        "asked": {name: value for name, value in wanted.items() if value != fields[name]},
        "seed": resolved.seed,
    }


class TakenOver(InputError):
    """Another process works on the run now: this one must not write to it."""


class Record(Mapping[str, Any]):
    """A run's `run.json`, held in memory: reading a value reads no file, `update` writes the file whole.

    The file is read again only if another process has written it since, as a spawned process of a distributed run does.
    Once a process has begun to work on the run, by `start` or `go_on`, it raises a `TakenOver` where another has since.

    Args:
        folder: the run directory. Without a `run.json` in it, the record is empty until `start`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._values: dict[str, Any] = {}
        self._version: tuple[int, int] | None = None
        """Inode and time of the file that `_values` is the content of; None without one."""
        self._writer: dict[str, Any] = {}
        """The process that works on the run, as far as it is this one or one that it has spawned."""

    @classmethod
    def read(cls, folder: Path) -> Record:
        """Return the record of a run that exists.

        Raises:
            InputError: as for `load`.
        """
        record = cls(folder)
        record._values, record._version = load(folder), record._version_on_disk()
        return record

    def start(self, requested: Experiment, **kept: Unpack[Values]) -> None:
        """Write the first record of a run, with a copy of its experiment file and of the uncommitted changes.

        Args:
            requested: what is run.
            **kept: further entries of the first record, such as the number of folds of a parent.
        """
        commit, dirty = git_state()
        self._values, self._writer = {}, state.writer()
        self._write(
            head(requested, requested)
            | state.process()
            | kept
            | {
                "started": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
                "git": {"commit": commit, "dirty": bool(dirty)},
                "versions": versions(),
                "command": sys.argv,
                "tests_read": 0,
            }
        )
        if source := getattr(sys.modules[type(requested).__module__], "__file__", None):  # a notebook has none
            shutil.copyfile(source, self.folder / Path(source).name)
        if dirty:
            atomic_write(self.folder / "uncommitted.diff", dirty)

    def go_on(self, **changes: Unpack[Values]) -> dict[str, Any]:
        """Write that this process works on the run from now on, and other changes; return the values before."""
        before = dict(self._current())
        self._writer = state.writer()
        self._write({**before, **state.process(), **changes})
        return before

    def give_back(self, before: Mapping[str, Any]) -> None:
        """Write the values from before `go_on`: this process has changed nothing of the run."""
        self.require_ours()
        self._write(before)

    def require_ours(self) -> None:
        """Raise a `TakenOver` where another process works on the run, as after this one's host has slept."""
        self._current()

    def update(self, **changes: Unpack[Values]) -> None:
        """Change values and write the file."""
        self._write({**self._current(), **changes})

    def _write(self, values: Mapping[str, Any]) -> None:
        write_json(self.folder / "run.json", values)
        self._values, self._version = dict(values), self._version_on_disk()

    def _current(self) -> dict[str, Any]:
        if self._version_on_disk() != self._version:
            version = self._version_on_disk()
            self._values, self._version = load(self.folder), version
        other = {name: self._values.get(name) for name in self._writer}
        if other != self._writer:
            raise TakenOver(
                f"{self.folder}: process {other['pid']} on {other['host']} has taken this run over while this process "
                "gave no sign of life. The run goes on there; this process ends and writes nothing more."
            )
        return self._values

    def _version_on_disk(self) -> tuple[int, int] | None:
        try:
            found = (self.folder / "run.json").stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_ino, found.st_mtime_ns

    @override
    def __getitem__(self, name: str) -> Any:
        return self._current()[name]

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._current())

    @override
    def __len__(self) -> int:
        return len(self._current())


def load(run: Path) -> dict[str, Any]:
    """Return a run's record.

    Raises:
        InputError: the directory is no run, or its record is damaged.
    """
    path = run / "run.json"
    try:
        if path.exists() and not path.is_file():  # a pipe would never end
            raise ValueError("no file")
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise TypeError("no object")
        if missing := {"experiment", "fields", "state"} - set(record):
            raise KeyError(*missing)
        _require_depth(record)
    except (FileNotFoundError, NotADirectoryError):
        known = [str(p.parent) for p in sorted(run.parent.glob("*/run.json"))][-3:] if run.parent.is_dir() else []
        there = f" There: {', '.join(known)}." if known else " A run is a directory runs/<Experiment>/<id>."
        raise InputError(f"{run}: no run (it has no run.json).{there}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: damaged record ({error}).") from None
    return record


def refuse_study(run: Path, record: Mapping[str, Any], what: str = "Name") -> None:
    """Raise an InputError where a run is a search or an ablation, whose runs are of different settings.

    Args:
        run: its directory.
        record: its record.
        what: can be done with one of its runs instead.
    """
    if "search" in record:
        best = record.get("best", {}).get("run")
        one = f"its best run: {run / best}" if best else f"one of its trials: {run / 'trial-1'}"
        raise InputError(f"{run}: a search, which has no weights of its own. {what} {one}.")
    if "ablation" in record:
        one = f"one of its runs: {run / 'full-seed-'}{record['ablation']['seeds'][0]}"
        raise InputError(f"{run}: an ablation, which has no weights of its own. {what} {one}.")


def _require_depth(value: Any, levels: int = 30) -> None:
    """Raise a ValueError for a value nested so deeply that reading it on would end in a RecursionError."""
    if not levels:
        raise ValueError("nested too deeply")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _require_depth(item, levels - 1)


def spec_of(record: dict[str, Any]) -> DataSpec:
    """Return the data's spec of a run. One from before targets had a kind predicts a number if it has no classes."""
    spec = record["spec"]
    if "kind" not in spec["target"]:
        kind = "single_label" if spec["classes"] else "regression"
        spec = spec | {"target": spec["target"] | {"kind": kind}}
    return from_json(DataSpec, spec)


@contextlib.contextmanager
def explain_record_errors(run: Path, record: dict[str, Any]) -> Iterator[None]:
    """While a record is turned into objects: an error names the run, and the code that made it if that is known.

    Raises:
        InputError: the record is of other code, or damaged.
    """
    try:
        yield
    except (InputError, LookupError, TypeError, ValueError, AttributeError) as error:
        why = str(error) if isinstance(error, InputError) else f"damaged record ({type(error).__name__}: {error})."
        git = record.get("git")
        commit = git.get("commit") if isinstance(git, dict) else ""
        way_out = f" The run was made at commit {commit[:12]}: `git checkout {commit[:12]}`." if commit else ""
        raise InputError(f"{run / 'run.json'}: {why}{way_out}") from error


def metrics(run: Path) -> list[tuple[int, int, str, float]]:
    """Return the rows (epoch, step, name, value) of metrics.csv; a row that is damaged is left out."""
    path = run / "metrics.csv"
    lines = path.read_bytes().splitlines() if path.is_file() else []
    return [row for line in lines if (row := metrics_row(line))]


def metrics_row(line: bytes) -> tuple[int, int, str, float] | None:
    """Return (epoch, step, name, value) of a line of metrics.csv; None for the header and what is damaged."""
    try:
        _, epoch, step, *name, value = line.decode().split(",")
        return int(epoch), int(step), ",".join(name), float(value)
    except ValueError:
        return None
