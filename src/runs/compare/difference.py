"""Two runs side by side: all in which they differ, and whether their scores differ by more than chance."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from src.configs.errors import InputError
from src.runs.compare.bootstrap import RESAMPLES, Paired, paired
from src.runs.compare.caution import cautions
from src.runs.compare.groups import compare, flat, shown_value
from src.runs.compare.runs import Run, read
from src.runs.compare.table import number
from src.terminal import console
from src.terminal.streams import escaped

DIFF_STYLES = {"+": "green", "-": "red", "@": "cyan"}


def show(first: Path, second: Path) -> int:
    """Print in what two runs differ, then their metrics and the paired bootstrap.

    Raises:
        InputError: one of them is no run, or its record is damaged.
    """
    one, two = read(first), read(second)
    out = console.current()
    for name, run in (("A", one), ("B", two)):
        out.print(Text.assemble((name, "bold"), f"  {run.path}  {run.experiment}, seed {run.seed}, {run.state}"))
    sections = {
        "fields": differences(_fields(one), _fields(two)),
        "git": differences(one.record.get("git", {}), two.record.get("git", {})),
        "data": differences(_data(one), _data(two)),
        "weights": differences(one.record.get("weights", {}), two.record.get("weights", {})),
        "versions": differences(one.record.get("versions", {}), two.record.get("versions", {})),
        "machine": differences(_machine(one), _machine(two)),
    }
    for name, rows in sections.items():
        _section(out, name, rows)
    for title, lines in (
        ("code", code(one.path, two.path)),
        ("uncommitted code", code(one.path, two.path, "*.diff")),
    ):
        out.print(Text.assemble((title, "bold"), "" if lines else ": the same"))
        for line in lines:
            out.print(Text(f"  {line}", style=DIFF_STYLES.get(line[:1], "")))
    _metrics(out, one, two)
    out.print(Text.assemble(("paired bootstrap", "bold"), f"\n  {significance(one, two)}"))
    for line in cautions(compare([one, two])):
        out.print(Text.assemble(("WARNING  ", "bold yellow"), line))
    return 0


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return name and both values, '' where one has none, of all that is not the same."""
    names = dict.fromkeys([*first, *second])
    return [
        (name, *(shown_value(values[name]) if name in values else "" for values in (first, second)))
        for name in names
        if first.get(name, ...) != second.get(name, ...)
    ]  # pyright: ignore[reportReturnType]


def _fields(run: Run) -> dict[str, Any]:
    return {"experiment": run.record["experiment"]} | flat(run.record["fields"])


def _data(run: Run) -> dict[str, Any]:
    """Return what the record says of the data, and a hash of the ids of each split."""
    known = ("source", "stand_in", "fingerprint", "split", "sizes")
    return flat({name: run.data[name] for name in known if name in run.data}) | _ids(run.path)


def _ids(run: Path) -> dict[str, str]:
    """Return a short hash of each split's ids: the same text may stand for other examples."""
    try:
        splits = json.loads((run / "split.json").read_text(encoding="utf-8"))
        hashed = {name: hashlib.sha256(json.dumps(ids).encode()) for name, ids in splits.items()}
        return {f"ids.{name}": found.hexdigest()[:12] for name, found in hashed.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _machine(run: Run) -> dict[str, Any]:
    return {name: run.record[name] for name in ("device", "precision", "host", "steps") if name in run.record}


def code(first: Path, second: Path, pattern: str = "*.py") -> list[str]:
    """Return the unified diff of the experiment files, or of the uncommitted changes, that the runs keep a copy of."""
    texts = [
        [line for path in sorted(run.glob(pattern)) for line in path.read_text(errors="replace").splitlines()]
        for run in (first, second)
    ]
    return list(difflib.unified_diff(*texts, fromfile=str(first), tofile=str(second), lineterm="", n=2))


def _section(out: Console, title: str, rows: list[tuple[str, str, str]]) -> None:
    out.print(Text.assemble((title, "bold"), "" if rows else ": the same"))
    if rows:
        found = Table(box=None, padding=(0, 2), show_header=False)
        for row in rows:
            found.add_row(*map(escaped, row))
        out.print(found)


def _metrics(out: Console, one: Run, two: Run) -> None:
    found = Table("metric", "A", "B", "A - B", box=SIMPLE_HEAD)
    best = [{f"best {run.best['name']}": run.best["value"]} if run.best else {} for run in (one, two)]
    values = [best[0] | one.metrics, best[1] | two.metrics]
    for name in dict.fromkeys([*values[0], *values[1]]):
        a, b = (side.get(name) for side in values)
        both = number(a - b) if a is not None and b is not None else ""
        found.add_row(escaped(name), *("" if value is None else number(value) for value in (a, b)), both)
    out.print(found)


def significance(one: Run, two: Run) -> str:
    """Return the result of the paired bootstrap, or why there is none."""
    try:
        return sentence(paired(one, two))
    except InputError as error:
        return f"none: {error}"


def sentence(found: Paired) -> str:
    return (
        f"{found.split}/{found.metric} of {found.examples} examples: "
        f"A {number(found.first)}, B {number(found.second)}, A - B {number(found.difference)}, "
        f"95 % interval [{number(found.low)}, {number(found.high)}], "
        f"two-sided p {found.p:.2g} ({RESAMPLES:,} resamples)"
    )
