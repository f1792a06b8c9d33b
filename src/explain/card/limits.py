"""What a run was not tested on: read off its record and said plainly."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import torch

from src.configs import shown
from src.datamodules.base import count_classes
from src.explain.card.by_group import FEW, Grouped
from src.explain.card.reported import NAMES, Reported
from src.runs.compare.caution import some
from src.runs.exports import ExportSummary


def limits(reported: Reported, grouped: Sequence[Grouped], exports: Sequence[ExportSummary]) -> list[str]:
    """Return a line for each thing, the gravest first."""
    return [
        *_data(reported),
        *_test(reported),
        *_classes(reported),
        *_seeds(reported),
        *_groups(reported, grouped),
        *_machine(reported, exports),
    ]


def warnings(reported: Reported) -> list[str]:
    """Return what nobody may miss."""
    record, found = reported.record, list[str]()
    if reported.data["stand_in"]:
        found.append(
            f"STAND-IN data ({reported.data['source']}): no score here holds for the real data that they stand in for."
        )
    for name, wanted in reported.first.get("asked", {}).items():
        found.append(f"STAND-IN: {name} {record['fields'].get(name)} took the place of {wanted}.")
    for name, own in reported.strange.items():
        then = shown.metric(reported.record["metrics"][name])
        found.append(
            f"The saved predictions have {name} {shown.metric(own)}, the record {then}: one of them was changed since."
        )
    said = [(warning, method) for method, checks in reported.checked.items() for warning in checks.warnings]
    for warning in dict.fromkeys(warning for warning, _ in said):
        of = [method for each, method in said if each == warning]
        found.append(f"Explanations by {'; '.join(of)}: {warning}")
    return found


def _data(reported: Reported) -> list[str]:
    found = ["Real data: these only stand in for them."] if reported.data["stand_in"] else []
    found.append(
        f"Data of any other source than {reported.data['source']}: another camera, place, time or way of collecting."
    )
    return found


def _test(reported: Reported) -> list[str]:
    record = reported.record
    if record.get("folds"):
        return []
    read, there = record.get("tests_read", 0), "test" in reported.data["sizes"]
    chosen = "the scores are of the validation split, which also chose the checkpoint, so they flatter"
    if not read:
        return [f"A test split: {'it is there and was never read' if there else 'there is none'}; {chosen}."]
    if read > 1:
        return [f"An untouched test split: it was read {read} times, so it may have been chosen by."]
    return []


def _classes(reported: Reported) -> list[str]:
    if not (reported.evaluated and reported.spec.classes):
        return []
    evaluated, single = reported.evaluated[0], reported.spec.target.kind == "single_label"
    counts = count_classes(torch.from_numpy(evaluated.target), reported.spec.num_classes).tolist()
    few = [f"{name} ({count})" for name, count in zip(reported.spec.classes, counts, strict=True) if count < FEW]
    what, split = "Classes" if single else "Labels", NAMES[evaluated.split]
    found = [f"{what} with fewer than {FEW} examples in {split}: {some(few)}."] if few else []
    if single:
        found.append("Anything that is of none of its classes: it answers with one of them all the same.")
    return found


def _seeds(reported: Reported) -> list[str]:
    record = reported.record
    found: list[str] = []
    if not (record.get("folds") or record.get("ensemble")):
        others = [run for run in reported.seeds if run.seed != record["seed"]]
        if not others:
            found.append("Other seeds: this is one run, and no other seed of these settings is beside it.")
        elif (best := record.get("best")) and all(run.best for run in reported.seeds):
            values = [run.best["value"] for run in reported.seeds]
            mean, spread = shown.metric(statistics.mean(values)), shown.metric(statistics.stdev(values))
            which = some(str(run.seed) for run in others)
            found.append(
                f"More than {len(values)} seeds: with seed {which} of the same settings {best['name']} is {mean} ± "
                f"{spread}; this run has {shown.metric(best['value'])}."
            )
    if not record.get("folds"):
        found.append("Other splits of the same data: it was not cross-validated.")
    return found


def _groups(reported: Reported, grouped: Sequence[Grouped]) -> list[str]:
    if not grouped:
        return ["Groups of examples, such as people of one age or pictures of one camera (--group COLUMN)."]
    all_groups = [(one, group) for one in grouped for group in one.groups]
    few = [f"{one.column} {group.name} ({group.examples})" for one, group in all_groups if group.score is None]
    found = [f"Groups with fewer than {FEW} examples: {some(few)}."] if few else []
    left = [f"{one.left_out} of {one.column}" for one in grouped if one.left_out]
    return found + ([f"Smaller groups, which are not shown: {', '.join(left)}."] if left else [])


def _machine(reported: Reported, exports: Sequence[ExportSummary]) -> list[str]:
    first = reported.first
    found = [f"Another precision than {first['precision']}, or another device than {first['device']}."]
    if not exports:
        found.append("Another runtime than PyTorch: it was not exported (scripts/export.py checks an export).")
    for export in exports:
        if export.stale:
            found.append(f"Its export {export.format}: it is of earlier weights.")
        elif export.largest is None:
            found.append(f"Its export {export.format}: it could not be run on the machine that made it.")
    if limit := reported.record["fields"].get("limit_val_batches"):
        found.append(f"All validation data: at most {limit} batches of them chose the checkpoint.")
    return found
