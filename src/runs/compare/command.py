"""What `compare.py` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from src.configs.errors import InputError
from src.resources.files import atomic_write
from src.runs import records
from src.runs.compare import files, table
from src.runs.compare.caution import cautions
from src.runs.compare.groups import compare
from src.runs.compare.runs import find


def write(places: Sequence[Path], *, csv: Path | None, json: Path | None, html: Path | None) -> int:
    """Print the comparison of the runs at or below `places`, by default of all runs, and write the files asked for."""
    runs, skipped = find(places or [records.runs_dir()])
    blocks = compare(runs)
    beware = cautions(blocks)
    table.show(blocks, beware, skipped)
    if csv:
        _save("--csv", csv, files.as_csv(blocks))
    if json:
        _save("--json", json, files.as_json(blocks, beware, skipped))
    if html:
        from src.runs.compare.page import page

        _save("--html", html, page(blocks, beware, skipped))
    return 0


def _save(flag: str, path: Path, text: str) -> None:
    try:
        atomic_write(path, text)
    except OSError as error:
        raise InputError(f"{flag} {path}: cannot be written ({error.strerror}).") from error
    print(f"written    {path}")
