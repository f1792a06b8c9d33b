"""What `check_data.py` does: check an experiment's data, say what was found, write the list of what to leave out."""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from src import data_checks
from src.cli.parser import CheckFlags
from src.datamodules import DataModule, quarantine
from src.experiment import Experiment
from src.resources.files import write_json
from src.terminal import console
from src.training.build import build_parts
from src.training.evaluate import all_notes
from src.training.trainer import quieten

SHOWN = 10
"""Examples of a finding that are printed."""


def check_data(requested: Experiment, flags: CheckFlags, target: str) -> int:
    """Check the data and print what was found.

    Args:
        requested: whose data; a list that it leaves out already is left out here too, and kept on the list.
        target: the experiment as the user named it, for the commands that come next.

    Returns:
        Exit code: 0 if nothing makes a score wrong, 1 if something does or, with --strict, for any finding.

    Raises:
        InputError: no such data.
    """
    quieten()
    started = time.monotonic()
    experiment = requested.resolve()
    datamodule, task = build_parts(experiment)
    report = data_checks.check(experiment, datamodule, task)
    seconds = time.monotonic() - started
    findings = report.worst_first()
    show(type(requested).__name__, datamodule, report, seconds)
    found = as_json(datamodule, report, seconds)
    data_checks.kept.keep(found)
    if flags.json:
        write_json(flags.json, found)
    listed = list(dict.fromkeys(entry for finding in findings for entry in finding.leave_out))
    if flags.fix:
        fix(requested, flags.list, listed, target)
    elif listed:
        console.line("next", f"--fix lists {len(listed)} examples of these to leave out; no data file is touched")
    return int(any(finding.wrong or flags.strict for finding in findings))


def show(name: str, datamodule: DataModule, report: data_checks.Report, seconds: float) -> None:
    """Print the report, the worst first."""
    found = datamodule.loaded
    console.title(f"{name}: {found.source}; splits {found.split}")
    console.line("", ", ".join(f"{split} {size}" for split, size in datamodule.sizes().items()))
    said = {finding.title for finding in report.findings}
    for note in all_notes(datamodule):
        if note not in said:
            console.line("note", note)
    if found.fallback:
        console.line("STAND-IN", "these data only stand in for yours (--data-dir)")
    for finding in report.worst_first():
        console.line("WRONG" if finding.wrong else "warning", finding.title)
        for example in finding.examples[:SHOWN]:
            console.line("", f"  {example}")
        if (more := len(finding.examples) - SHOWN) > 0:
            console.line("", f"  and {more} more (--json FILE has all)")
    for checked in report.checked:
        console.line("checked", checked)
    wrong = sum(finding.wrong for finding in report.findings)
    warnings = len(report.findings) - wrong
    verdict = f"findings that make a score wrong: {wrong}; warnings: {warnings}" if report.findings else "nothing found"
    console.line("result", f"{verdict}; {seconds:.0f} s")


def as_json(datamodule: DataModule, report: data_checks.Report, seconds: float) -> dict[str, Any]:
    return {
        "data": {
            "source": datamodule.loaded.source,
            "split": datamodule.loaded.split,
            "fingerprint": datamodule.fingerprint,
            "sizes": datamodule.sizes(),
            "notes": all_notes(datamodule),
        },
        "findings": [dataclasses.asdict(finding) for finding in report.worst_first()],
        "checked": report.checked,
        "seconds": round(seconds, 1),
    }


def fix(requested: Experiment, path: Path, listed: Sequence[quarantine.Entry], target: str) -> None:
    """Write the list, with what it had before where the data were checked without that."""
    before = quarantine.read(path) if path == requested.quarantine else []
    if not listed:
        console.line(
            "list", f"{path} stays as it is: nothing to add" if before else "nothing to leave out, so none is written"
        )
        return
    quarantine.write(path, [*before, *listed])
    console.line(
        "list", f"{path}: {len(listed)} examples to leave out{f', after {len(before)} there were' if before else ''}"
    )
    console.line("", f"look through it; then: python scripts/run.py {shlex.join([target, '--quarantine', str(path)])}")
