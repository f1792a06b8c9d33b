"""What a run's exports say of themselves, for those who look at the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from src.resources.files import digest_of
from src.runs import state


class ExportSummary(NamedTuple):
    """The figures of a certificate that fit into a line."""

    format: str
    bytes: int
    largest: float | None
    """Difference of an answer to PyTorch's; None where it could not be run on the machine that made it."""
    ratio: float | None
    """How many times as fast as PyTorch, for one example and by one thread; None likewise."""
    stale: bool
    """See `is_stale`."""

    def __str__(self) -> str:
        checked = "not checked" if self.largest is None else f"within {self.largest:.1e}"
        times = "" if self.ratio is None else f", {self.ratio:.1f} times PyTorch"
        return f"{self.format} {checked}{times}{', of earlier weights' if self.stale else ''}"


def exports_of(run: Path) -> list[ExportSummary]:
    """Return a run's exports by name; what cannot be read is none, and `predict.py` says so when it is used."""
    found: list[ExportSummary] = []
    certificates = sorted(run.glob("export/*/certificate.json"))
    try:
        now = weights_of(run) if certificates else []
    except OSError:
        return found
    for path in certificates:
        try:
            certificate: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            parity, speed = certificate.get("parity") or {}, certificate.get("speed") or {}
            size = certificate["model"]["bytes"]
            figures = parity.get("largest"), speed.get("ratio")
            found.append(ExportSummary(certificate["format"], size, *figures, is_stale(now, certificate)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return found


def weights_of(run: Path) -> list[str]:
    """Return the SHA-256 of the best weights of a run, or of each of its children; of those that are there."""
    paths = [member / "checkpoints" / "best.ckpt" for member in state.children(run) or [run]]
    return [digest_of(path) for path in paths if path.is_file()]


def is_stale(now: list[str], certificate: Mapping[str, Any]) -> bool:
    """Return whether a run has gone on since an export: its weights, of `weights_of`, are others by now."""
    return bool(now) and now != certificate["run"]["weights_sha256"]
