"""Results of a run as rows of cells; the first row is the header."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def of_classes(record: Mapping[str, Any]) -> list[list[str]]:
    """Return a header and a row for each class that has examples, the rarest first, from the figures of test, or of
    val; none where the record has no such figures."""
    splits = record.get("per_class", {})
    found = splits.get("test") or splits.get("val")
    if not found:
        return []
    there = [(name, row) for name, row in found["classes"].items() if row["support"]]
    lines = [["", "recall", "precision", "f1", "examples"]]
    for name, row in sorted(there, key=lambda item: item[1]["support"]):
        shown = (f"{row[key]:.4f}" for key in ("recall", "precision", "f1"))
        lines.append([name, *shown, f"{row['support']:.0f}"])
    return lines


def of_ensemble(record: Mapping[str, Any]) -> list[list[str]]:
    """Return a header and a row for each metric: the members' mean and deviation, the ensemble's, the gain."""
    mean, spread = record["members"]["mean"], record["members"]["spread"]
    return [["", "members", "ensemble", "gain"]] + [
        [name, f"{mean[name]:.4g} ± {spread[name]:.2g}", f"{value:.4g}", f"{record['gain'][name]:+.2g}"]
        for name, value in record["metrics"].items()
    ]


def beside_baselines(record: Mapping[str, Any]) -> list[list[str]]:
    """Return a header and a row for the run and for each baseline, with the metrics of test, or of val without it."""
    shown = [name for name in record["metrics"] if name.startswith("test/") and not name.endswith("/loss")]
    shown = shown or [name for name in record["metrics"] if name.startswith("val/") and not name.endswith("/loss")]
    baselines, spreads = record.get("baselines", {}), record.get("baselines_spread", {})
    name = record["experiment"].rpartition(".")[2]
    lines = [(name, record["metrics"], record.get("spread", {}))]
    lines += [(other, found, spreads.get(other, {})) for other, found in baselines.items()]
    found = [["", *shown]]
    for label, values, spread in lines:
        cells = (
            f"{values[key]:.4g}" + (f" ± {spread[key]:.2g}" if key in spread else "") if key in values else ""
            for key in shown
        )
        found.append([label, *cells])
    return found
