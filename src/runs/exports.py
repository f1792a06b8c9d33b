"""What a run's exports say of themselves, for those who look at the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple


class ExportSummary(NamedTuple):
    """The figures of a certificate that fit into a line."""

    format: str
    bytes: int
    largest: float | None
    """Difference of an answer to PyTorch's; None where it could not be run on the machine that made it."""
    ratio: float | None
    """How many times as fast as PyTorch, for one example and by one thread; None likewise."""

    def __str__(self) -> str:
        checked = "not checked" if self.largest is None else f"within {self.largest:.1e}"
        times = "" if self.ratio is None else f", {self.ratio:.1f} times PyTorch"
        return f"{self.format} {checked}{times}"


def exports_of(run: Path) -> list[ExportSummary]:
    """Return a run's exports by name; what cannot be read is none, and `predict.py` says so when it is used."""
    found: list[ExportSummary] = []
    for path in sorted(run.glob("export/*/certificate.json")):
        try:
            certificate: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            parity, speed = certificate.get("parity") or {}, certificate.get("speed") or {}
            size = certificate["model"]["bytes"]
            found.append(ExportSummary(certificate["format"], size, parity.get("largest"), speed.get("ratio")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return found
