"""The runs to compare: found below folders, read from their run.json alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from src.configs.errors import InputError
from src.runs import records, state
from src.runs.exports import ExportSummary, exports_of

KINDS: dict[str, type | tuple[type, ...]] = {
    "experiment": str,
    "fields": dict,
    "asked": dict,
    "seed": int,
    "state": str,
    "reason": str,
    "started": str,
    "tests_read": int,
    "metrics": dict,
    "best": dict,
    "best.name": str,
    "best.value": (int, float),
    "data": dict,
    "data.source": str,
    "data.split": str,
    "data.fingerprint": str,
    "data.sizes": dict,
    "weights": dict,
    "weights.source": str,
    "git": dict,
    "git.commit": str,
}
"""What the entries of a record are, where they are there: a run that failed early has not all of them."""
NEEDED = {"best": {"name", "value"}, "data": {"source", "split", "fingerprint"}}
"""What an entry has, if it has anything."""
LOWER_IS_BETTER = ("loss", "rmse", "mae", "ece")
"""Metrics of records from before a record said so itself."""
WRITTEN = ("done", "failed", "interrupted", "running")


@dataclass(frozen=True)
class Run:
    """A run directory as it was read."""

    path: Path
    record: dict[str, Any]
    state: str
    """done, failed, interrupted, running, or died: see `state.state_of`."""

    @property
    def experiment(self) -> str:
        """The class's name, without its module."""
        return self.record["experiment"].rpartition(".")[2]

    @property
    def seed(self) -> int | None:
        return self.record.get("seed")

    @property
    def metrics(self) -> dict[str, float]:
        return self.record.get("metrics", {})

    @property
    def best(self) -> dict[str, Any]:
        """Name, value and mode of the monitored metric at its best; empty before the end of the training."""
        return self.record.get("best", {})

    @property
    def mode(self) -> Literal["min", "max"]:
        """Whether less or more of the monitored metric is better; by its name where an old record does not say so."""
        by_name = "min" if self.best.get("name", "").rpartition("/")[2] in LOWER_IS_BETTER else "max"
        return self.best.get("mode", by_name)

    @property
    def data(self) -> dict[str, Any]:
        return self.record.get("data", {})

    @cached_property
    def exports(self) -> list[ExportSummary]:
        return exports_of(self.path)

    def trouble(self) -> str:
        """Return why the run is not done and how far it came; '' for one that is done."""
        if self.state == "done":
            return ""
        rows = records.metrics(self.path)
        far = f"last at epoch {rows[-1][0]}, step {rows[-1][1]}" if rows else "no step recorded"
        return "; ".join(part for part in (self.record.get("reason", ""), far) if part)


def find(places: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """Return the runs at or below `places`, and a line for each that cannot be read.

    A run's children, the folds of a cross-validation, belong to it and are found only where they are named themselves;
    those of a search or an ablation where that is named.

    Raises:
        InputError: a place is not there, or no run was found.
    """
    paths: dict[Path, Path] = {}
    skipped: list[str] = []
    for place in places:
        if not place.exists():
            raise InputError(f"{place}: not there. Name runs, runs/<Experiment>/<id>, or folders that hold some.")
        for path in _below(place, skipped) if place.is_dir() else ():  # a glob names the files beside runs too
            paths.setdefault(path.resolve(), path)
    found: list[Run] = []
    for path in paths.values():
        try:
            found.append(read(path))
        except (InputError, OSError) as error:
            skipped.append(str(error))
    if not found:
        why = "".join(f"\n  {line}" for line in skipped)
        raise InputError(f"{', '.join(map(str, places))}: no run found (a run is a directory with run.json).{why}")
    return found, skipped


def read(path: Path) -> Run:
    """Return the run of a directory.

    Raises:
        InputError: it is no run, or its record is damaged.
    """
    record = records.load(path)
    wrong = [name for name, kind in KINDS.items() if not isinstance(_entry(record, name, kind), kind)]
    if not wrong:
        wrong += ["state"] if record["state"] not in WRITTEN else []
        wrong += [name for name, value in record.get("metrics", {}).items() if not isinstance(value, int | float)]
        wrong += ["best.mode"] if record.get("best", {}).get("mode", "min") not in ("min", "max") else []
        wrong += [name for name, needed in NEEDED.items() if record.get(name) and not needed <= record[name].keys()]
    if wrong:
        raise InputError(f"{path / 'run.json'}: damaged record ({', '.join(wrong)}).")
    return Run(path, record, state.state_of(path, record))


def _entry(record: dict[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    """Return the entry of a dotted name; where there is none, something of its kind."""
    value: Any = record
    for part in name.split("."):
        if not (isinstance(value, dict) and part in value):
            return kind() if isinstance(kind, type) else kind[0]()
        value = value[part]
    return value


def _below(place: Path, skipped: list[str]) -> Iterator[Path]:
    """Yield the run directories at or below a folder."""
    for folder, below, files in os.walk(place, onerror=lambda error: skipped.append(str(error))):
        if "run.json" in files:
            children = "*-*" if "journal.log" in files else "*-seed-*"  # of a search, of an ablation
            if Path(folder) == place and (found := sorted(place.glob(f"{children}/run.json"))):
                yield from (one.parent for one in found)
            else:
                yield Path(folder)
            below.clear()
        below[:] = sorted(name for name in below if not name.startswith("."))
