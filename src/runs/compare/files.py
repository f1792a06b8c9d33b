"""The comparison as files for other programs, with full numbers: a row a group in CSV, everything in JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from typing import Any

from src.runs.compare.groups import STATES, Block, Group, differing
from src.runs.compare.runs import Run

ALWAYS = ("data", "fingerprint", "split", "weights_source", "precision_used")


def rows(blocks: Sequence[Block]) -> list[dict[str, Any]]:
    """Return a row for each group: experiment, the settings that differ between any of them, states, and for each
    metric `_mean`, `_sd`, `_n`, `_low` and `_high`; None where there is none."""
    pairs = [(block, group) for block in blocks for group in block.groups]
    differ = differing(group.settings for _, group in pairs)
    metrics = list(dict.fromkeys(name for block in blocks for name in block.metrics))
    found: list[dict[str, Any]] = []
    for block, group in pairs:
        row = {name: group.settings.get(name) for name in ("experiment", *differ, *ALWAYS)}
        row |= {"stand_in": block.fallback, **{state: group.states.get(state, 0) for state in STATES}}
        for metric in metrics:
            of = group.estimates.get(metric)
            row |= {f"{metric}_{part}": getattr(of, part, None) for part in ("mean", "sd", "n", "low", "high")}
        found.append(row)
    return found


def as_csv(blocks: Sequence[Block]) -> str:
    """Return `rows` as CSV."""
    found, file = rows(blocks), io.StringIO()
    writer = csv.DictWriter(file, list(found[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return file.getvalue()


def as_json(blocks: Sequence[Block], cautions: Sequence[str], skipped: Sequence[str]) -> str:
    """Return groups with their settings, estimates and runs; a number that is not finite is null."""
    value = {
        "warnings": list(cautions),
        "skipped": list(skipped),
        "groups": [_group(block, group) for block in blocks for group in block.groups],
    }
    return json.dumps(_strict(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _group(block: Block, group: Group) -> dict[str, Any]:
    return {
        "settings": group.settings,
        "differs": {name: group.settings.get(name) for name in block.columns},
        "stand_in": block.fallback,
        "sizes": block.data.get("sizes", {}),
        "states": group.states,
        "estimates": {name: found._asdict() for name, found in group.estimates.items()},
        "runs": [_run(run) | {"counted": run in group.counted} for run in group.runs],
    }


def _run(run: Run) -> dict[str, Any]:
    kept = ("seed", "best", "metrics", "tests_read", "wall_s", "samples_per_s", "started", "git", "device")
    exports = [one._asdict() for one in run.exports]
    return {"run": str(run.path), "state": run.state, "trouble": run.trouble(), "exports": exports} | {
        name: run.record.get(name) for name in kept
    }


def _strict(value: Any) -> Any:
    """Return a value with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {name: _strict(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
