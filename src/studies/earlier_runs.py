"""Runs from before a search as trials of it: what is known already need not be tried."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from src.configs.errors import InputError
from src.configs.search import Search
from src.experiment import Experiment
from src.runs import records
from src.runs.compare.groups import flat
from src.runs.compare.runs import Run, find
from src.studies.journal import imported
from src.studies.samplers import distribution, holds, ordered
from src.terminal import console

OF_NO_MATTER = ("logger", "limit_test_batches", "num_workers", "max_time")
"""Fields that change no validation value."""


def add_earlier(study: Any, experiment: Experiment, search: Search, places: Sequence[Path]) -> None:
    """Add runs as trials, which count apart from the search's own; each once, however often it is named.

    Args:
        study: of the search.
        experiment: what is searched; fields outside the space have to be the same.
        search: the space.
        places: run directories, or folders to look for them.

    Raises:
        InputError: none of the runs there can be used, and why not.
    """
    if not places:
        return
    known = {one.user_attrs["run"] for one in study.get_trials(deepcopy=False) if "imported" in one.user_attrs}
    runs, passed_over = find(places)
    added = 0
    for run in runs:
        name = str(run.path.resolve())
        if why := why_not(run, experiment, search):
            passed_over.append(f"{run.path}: {why}")
        elif name not in known:
            study.add_trial(trial_of(run, name, search, experiment.monitor))
            added += 1
        else:
            added += 1
    for line in passed_over:
        console.line("note", f"--import {line}")
    if not added:
        named = " ".join(map(str, places))
        raise InputError(f"--import {named}: none of the runs there can be a trial of this search.")
    console.line("imported", f"{added} earlier runs")


def why_not(run: Run, experiment: Experiment, search: Search) -> str:
    """Return why a run cannot be a trial; '' where it can."""
    if run.record["experiment"] != experiment.dotted_name():
        return f"a run of {run.record['experiment']}"
    if run.state != "done" or "search" in run.record or "folds" in run.record or "ensemble" in run.record:
        return f"{run.state}, or no single run"
    best = run.best
    if (best.get("name"), best.get("mode")) != (experiment.monitor, experiment.mode):
        return f"it was chosen by {best.get('name')}, and this search is by {experiment.monitor}"
    if not math.isfinite(best["value"]):
        return f"its {best['name']} is {best['value']}"
    had, wanted = flat(asked(run.record)), flat(experiment.to_json())
    for name in dict.fromkeys([*had, *wanted]):
        if name not in search.space and name not in OF_NO_MATTER and had.get(name) != wanted.get(name):
            return f"{name} is {had.get(name)}, and {wanted.get(name)} in this search"
    for name, value in setting_of(run, search).items():
        of = distribution(search.space[name])
        try:
            inside = of._contains(of.to_internal_repr(value))
        except ValueError:
            inside = False
        if not inside:
            return f"{name} is {value}, which is not in the space"
    return ""


def asked(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a run as they were asked for, before data and machine changed some."""
    return record["fields"] | record.get("sized", {}).get("was", {}) | record.get("asked", {})


def setting_of(run: Run, search: Search) -> dict[str, Any]:
    """Return the values of a run's fields that a trial would have had."""
    had, setting = flat(asked(run.record)), dict[str, Any]()
    for name, domain in ordered(search.space).items():
        if holds(domain, setting):
            setting[name] = had.get(name)
    return setting


def trial_of(run: Run, name: str, search: Search, monitor: str) -> Any:
    """Return a finished trial with the values of a run's validations."""
    setting, trial = setting_of(run, search), imported().trial
    pruned = run.record["reason"].startswith("pruned")
    values = [value for _, _, metric, value in records.metrics(run.path) if metric == monitor]
    return trial.create_trial(
        state=trial.TrialState.PRUNED if pruned else trial.TrialState.COMPLETE,
        value=values[-1] if pruned else run.best["value"],
        params=setting,
        distributions={name: distribution(search.space[name]) for name in setting},
        intermediate_values={number: value for number, value in enumerate(values, 1) if math.isfinite(value)},
        user_attrs={"run": name, "imported": True, "seconds": run.record.get("wall_s", 0.0)},
    )
