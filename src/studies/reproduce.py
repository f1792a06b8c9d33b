"""The same run once more: the same experiment, fields, seed and data; are its numbers the same?"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from src.configs.errors import InputError
from src.datamodules import Fold
from src.experiment import Experiment
from src.resources.weights_files import load_weights
from src.runs import records, state
from src.runs.records import Record
from src.studies.cross_validation import cross_validate
from src.studies.ensemble import ensemble
from src.training.options import RunOptions
from src.training.runner import run

OF_TIME = ("train/samples_per_s", "train/tokens_per_s")
"""Metrics that say how fast it went."""
ROUNDING, SHARE = 0.05, 0.01
"""Relative difference of metrics, and absolute one for those near 0, that rounding in another order explains. With one
thread and two, which add in another order, 8 epochs of DigitsCNN on the CPU differed by 3 % of a loss, and by 0.004 in
accuracy and calibration error."""
OF_A_BATCH = ("train/loss_step",)
"""Metrics that rounding moves too far to be compared."""


def reproduce(original: Path, experiment: Experiment, options: RunOptions = RunOptions()) -> bool:
    """Run an experiment again with the fields of a finished run, print what differs, and return whether nothing does.

    A fold is trained on its fold, and a run with children is run with all of them. The new run's record has
    `reproduction`: the original, and what differs from it.

    Raises:
        InputError: the original is not finished, or its data are not these.
    """
    before = records.load(original)
    if before["state"] != "done":
        raise InputError(f"--reproduce {original}: that run is {before['state']}. Name one that is done.")
    records.refuse_study(original, before, "Reproduce")
    options = replace(options, same_data_as=original)
    if folds := before.get("folds"):
        folder = cross_validate(experiment, folds, options)
    elif members := before.get("ensemble"):
        folder = ensemble(experiment, members, options)
    elif "fold" in before:
        fold = Fold(**before["fold"])
        folder = run(experiment, replace(options, fold=fold, test=options.test or fold.held_out == "test"))
    else:
        folder = run(experiment, options)
    after = Record.read(folder)
    runs = [(one, folder / one.name) for one in state.children(original)] or [(original, folder)]
    elsewhere = circumstances(before, after)
    found = [(one, what) for one, other in runs for what in differences(one, other)]
    found = [what if one == original else f"{one.name}: {what}" for one, what in found]
    after.update(reproduction={"of": str(original), "differences": found, "circumstances": elsewhere})
    if found:
        print(f"reproduced {original}: {len(found)} differences", *found, sep="\n           ", flush=True)
        print("because    " + "\n           ".join(elsewhere or ["nothing that the records know of"]), flush=True)
    else:
        count = sum(len(records.metrics(one)) for one, _ in runs)
        what = f"{count} logged values, weights and predictions are equal to the bit"
        if within := tolerance(*runs[0]):
            what = f"metrics are equal within {within:.0%} or {SHARE}; additions have no order there, so that weights, "
            what += "predictions and losses of single batches are not compared"
        print(f"reproduced {original}: {what}", flush=True)
    return not found


def circumstances(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return what of code, machine and libraries is not as it was for the original run."""
    found: list[str] = []
    commits = before["git"]["commit"], after["git"]["commit"]
    if commits[0] != commits[1]:
        found.append(f"commit {commits[1][:8]}, then {commits[0][:8]}: git checkout {shlex.quote(commits[0])}")
    if before["git"]["dirty"]:
        found.append("uncommitted changes then: uncommitted.diff in its directory")
    if after["git"]["dirty"]:
        found.append("uncommitted changes now")
    for name, version in before["versions"].items():
        if after["versions"].get(name) != version:
            found.append(f"{name} {after['versions'].get(name)}, then {version}")
    for name in ("device", "precision", "host", "reproducible"):
        if before.get(name) != after.get(name):
            found.append(f"{name} {after.get(name)}, then {before.get(name)}")
    return found


def differences(one: Path, other: Path) -> list[str]:
    """Return what differs between two finished runs: logged values, final metrics, predictions, weights; where runs are
    reproducible up to rounding, the first two by more than `ROUNDING`."""
    found: list[str] = []
    within = tolerance(one, other)
    first, second = (
        {(name, epoch, step): value for epoch, step, name, value in records.metrics(run) if name not in OF_TIME}
        for run in (one, other)
    )
    keys = {key for key in first.keys() | second.keys() if not (within and key[0] in OF_A_BATCH)}
    unequal = [key for key in keys if not same(first.get(key), second.get(key), within)]
    if unequal:
        name, epoch, step = min(unequal, key=lambda key: (key[2], key[0]))
        values = f"{first.get((name, epoch, step))} then, {second.get((name, epoch, step))} now"
        found.append(f"{len(unequal)} logged values, the first at step {step} (epoch {epoch}): {name} {values}")
    metrics = [records.load(run)["metrics"] for run in (one, other)]
    for name in sorted(metrics[0].keys() & metrics[1].keys()):
        if not same(metrics[0][name], metrics[1][name], within):
            found.append(f"{name} {metrics[0][name]} then, {metrics[1][name]} now")
    if within:  # rounding moves every weight and prediction a little
        return found
    for name in ("predictions_val.csv", "predictions_test.csv"):
        files = [run / name for run in (one, other)]
        if all(file.is_file() for file in files) and files[0].read_bytes() != files[1].read_bytes():
            found.append(name)
    weights = [load_weights(run / "checkpoints" / "last.ckpt")["state_dict"] for run in (one, other)]
    if weights[0].keys() != weights[1].keys():
        found.append("the names of the weights")
    elif apart := [name for name, value in weights[0].items() if not torch.equal(value, weights[1][name])]:
        found.append(f"{len(apart)} of {len(weights[0])} tensors of weights, {apart[0]} first")
    return found


def tolerance(*runs: Path) -> float:
    """Return the relative difference of metrics that counts as none: 0 on the CPU, `ROUNDING` where the order of
    additions is another each time, as on a GPU."""
    exact = all(records.load(run)["reproducible"].startswith("to the bit") for run in runs)
    return 0.0 if exact else ROUNDING


def same(one: float | None, other: float | None, within: float = 0.0) -> bool:
    """Return whether two values are the same, NaN too: to the bit, or `within` a relative difference, or `SHARE`."""
    if one is None or other is None:
        return one is other
    return (
        one == other
        or (math.isnan(one) and math.isnan(other))
        or math.isclose(one, other, rel_tol=within, abs_tol=SHARE if within else 0.0)
    )
