"""The latest report on each data set, kept in the cache: explanations show what it says beside training examples."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.datamodules import DataModule
from src.datamodules.quarantine import Entry
from src.resources.cache import cache_dir
from src.resources.files import write_json


def keep(report: Mapping[str, Any]) -> None:
    """Keep a report.

    Args:
        report: as `check_data.py --json` writes it.
    """
    with contextlib.suppress(OSError):  # a cache that cannot be written: explanations say that there is no report
        write_json(_path(report["data"]["fingerprint"]), report)


def of_training(datamodule: DataModule) -> dict[str, str] | None:
    """Return id -> what the check said of training examples, joined by '; '; None where it has not seen these splits.

    Args:
        datamodule: after `setup`.
    """
    try:
        report = json.loads(_path(datamodule.fingerprint).read_text(encoding="utf-8"))
        if (report["data"]["split"], report["data"]["sizes"]) != (datamodule.loaded.split, datamodule.sizes()):
            return None
        entries = [Entry(*entry) for finding in report["findings"] for entry in finding["about"]]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    found: dict[str, list[str]] = {}
    for entry in dict.fromkeys(entries):
        if entry.split == "train":
            found.setdefault(entry.id, []).append(entry.why)
    return {name: "; ".join(why) for name, why in found.items()}


def _path(fingerprint: str) -> Path:
    return cache_dir() / "data_checks" / f"{fingerprint}.json"
