"""Ensembles: a parent run whose children differ in the seed alone, and the average of what they predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.callbacks import Evaluation
from src.datamodules import DataModule
from src.experiment import Experiment
from src.runs import records, result_tables, summary
from src.runs.records import Record
from src.runs.tensorboard import TensorBoard
from src.studies.multi_run import child, mean_and_spread, parent
from src.tasks.objectives import default_objective
from src.training.build import build_data
from src.training.evaluate import report
from src.training.options import RunOptions
from src.training.ranks import is_rank_zero, meet, told


def ensemble(requested: Experiment, count: int, options: RunOptions = RunOptions()) -> Path:
    """Train an experiment with the seeds from its own on and average what the members predict; return the directory.

    Classes have the mean of the members' probabilities, numbers the mean of their predictions and of either end of
    their intervals (averaging quantiles: Lichtendahl et al. 2013, https://doi.org/10.1287/mnsc.1120.1667). The parent
    is evaluated as a run is; its record has the members' mean, their spread, and the gain over the mean besides.

    Args:
        requested: as the user wants it.
        count: members.
        options: how to run each member; the baselines are fitted once. `resume` is an ensemble to go on with; members
            that are done stay as they are.

    Raises:
        InputError: as for `run`, or all is done already.
    """
    meet(requested)
    before = told(lambda: records.load(options.resume) if options.resume else {})
    again = options.test and not before.get("with_test")
    test = options.test or before.get("with_test", False)
    baselines = options.baselines or before.get("with_baselines", False)
    kept = {"ensemble": count, "with_test": test, "with_baselines": baselines}
    with parent(requested, options.resume, again=again, **kept) as record:
        folder = record.folder
        children = [
            child(
                replace(requested, seed=requested.seed + number),
                folder / f"member-{number + 1}",
                folder / "member-1",
                replace(options, test=test, baselines=baselines and number == 0, averaged=True),
            )
            for number in range(count)
        ]
        if is_rank_zero():
            datamodule, splits = build_data(requested.resolve()), ("val", "test") if test else ("val",)
            columns = {
                split: average([member_columns([one], split, datamodule) for one in children]) for split in splits
            }
            evaluate_average(datamodule, record, children, columns)
            summary.after_ensemble(record, folder)
    return folder


def evaluate_average(
    datamodule: DataModule,
    record: Record,
    children: Sequence[Path],
    averages: Mapping[str, dict[str, np.ndarray]],
    *,
    alike: bool = True,
) -> None:
    """Evaluate the average of finished members, and write the parent's record, predictions and TensorBoard.

    Args:
        datamodule: the data, set up.
        record: of the parent.
        children: the members.
        averages: split -> what `average` returns of their predictions of it.
        alike: whether the members differ in the seed alone, so that their mean and spread say something.
    """
    objective = default_objective(datamodule.spec)
    tensorboard = TensorBoard(record.folder) if "tensorboard" in record["fields"]["logger"] else None
    evaluation = Evaluation(record, datamodule, objective, tensorboard)
    metrics: dict[str, float] = {}
    for split, columns in averages.items():
        predicted = {name: values for name, values in columns.items() if name not in ("index", "target")}
        metrics |= {f"{split}/{name}": value for name, value in objective.score(predicted, columns["target"]).items()}
        evaluation.leave(split, columns)
    found = [records.load(one) for one in children]
    first, best = found[0], found[0]["best"]
    result: Any = {part: first[part] for part in ("data", "spec", "weights", "model", "device", "precision")}
    result |= {
        "state": "done",
        "reason": f"{len(children)} members done",
        "metrics": metrics,
        "wall_s": round(sum(one["wall_s"] for one in found), 1),
        "tests_read": max(one["tests_read"] for one in found),
    }
    if alike:
        mean, spread = mean_and_spread([one["metrics"] for one in found])
        gain = {name: value - mean[name] for name, value in metrics.items()}
        result |= {"members": {"mean": mean, "spread": spread}, "gain": gain}
    if best["name"] in metrics:  # the average has no loss: every task has its own
        monitored = {name: best[name] for name in ("name", "mode") if name in best}
        result["best"] = monitored | {"value": metrics[best["name"]]}
    if "baselines" in first:
        result["baselines"] = first["baselines"]
    if per_class := {split: found for split in averages if (found := report(record.folder, split, objective))}:
        result["per_class"] = per_class
    record.update(**result)
    if tensorboard:
        if alike:
            tensorboard.log_table("ensemble", result_tables.of_ensemble(record))
        tensorboard.log_run(*summary.comparable(record, record.folder))
        tensorboard.finalize("success")  # its thread would stay


def member_columns(
    runs: Sequence[Path], split: str, datamodule: DataModule, *, of: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Return saved predictions of examples by position: 'index', 'target' and the objective's predictions.

    Args:
        runs: a member, or runs that each predict a part of the examples.
        split: that the runs have predicted.
        datamodule: the data, set up.
        of: the splits of `datamodule` that the examples are from, one after the other; `split` unless given.
    """
    files = [run / f"predictions_{split}.csv" for run in runs]
    rows = pd.concat([pd.read_csv(file, dtype=str, keep_default_na=False) for file in files], ignore_index=True)
    names = [str(name) for one in of or (split,) for name in datamodule.ids(one)]
    place = {name: position for position, name in enumerate(names)}
    rows = rows[rows["id"].isin(place)]
    predicted, target = default_objective(datamodule.spec).read(rows)
    index = np.array([place[name] for name in rows["id"]])
    order = index.argsort()  # texts of like length come together
    return {name: values[order] for name, values in {"index": index, "target": target, **predicted}.items()}


def average(members: Sequence[dict[str, np.ndarray]], shares: Sequence[float] | None = None) -> dict[str, np.ndarray]:
    """Return the means of all members' columns, weighted by their shares; 'index' and 'target' are the same for all."""
    fixed = {name: members[0][name] for name in ("index", "target")}
    means = {name: np.average([one[name] for one in members], 0, shares) for name in members[0] if name not in fixed}
    return fixed | means
