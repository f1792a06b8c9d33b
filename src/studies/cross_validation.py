"""Cross-validation: a parent run whose children are trained on all folds but one."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from src.datamodules import Fold
from src.experiment import Experiment
from src.resources.files import atomic_write
from src.runs import records, summary
from src.runs.values import Values
from src.studies.multi_run import child, mean_and_spread, parent
from src.training.options import RunOptions
from src.training.ranks import is_rank_zero, meet, told


def cross_validate(requested: Experiment, count: int, options: RunOptions = RunOptions()) -> Path:
    """Train and test an experiment once a fold; return the parent run's directory.

    The parent's record has the mean and the standard deviation of the children's metrics; `predictions_folds.csv` has
    each example's prediction by the child that has not seen it.

    Args:
        requested: as the user wants it.
        count: folds.
        options: how to run each fold, which is always tested. `resume` is a cross-validation to go on with; children
            that are done stay as they are.

    Raises:
        InputError: as for `run`, or all is done already.
    """
    resume = options.resume
    meet(requested)
    baselines = options.baselines or told(lambda: resume is not None and records.load(resume)["with_baselines"])
    options = replace(options, test=True, baselines=baselines)
    with parent(requested, resume, folds=count, with_baselines=baselines) as record:
        folder = record.folder
        children = [
            child(
                requested,
                folder / f"fold-{number}",
                folder / "fold-1",
                replace(options, fold=Fold(number, count)),
            )
            for number in range(1, count + 1)
        ]
        if is_rank_zero():
            atomic_write(folder / "predictions_folds.csv", join(children))
            record.update(**together([records.load(one) for one in children]))
            summary.after_folds(record, folder)
    return folder


def together(children: Sequence[Mapping[str, Any]]) -> Values:
    """Return what the parent's record says of its children: means, and standard deviations over the folds."""
    mean, spread = mean_and_spread([child["metrics"] for child in children])
    names = children[0].get("baselines", {})
    baselines = {name: mean_and_spread([child["baselines"][name] for child in children]) for name in names}
    best = [child["best"] for child in children]
    monitored = {name: best[0][name] for name in ("name", "mode") if name in best[0]}
    first = children[0]
    return {
        "state": "done",
        "reason": f"{len(children)} folds done",
        "metrics": mean,
        "spread": spread,
        "baselines": {name: found[0] for name, found in baselines.items()},
        "baselines_spread": {name: found[1] for name, found in baselines.items()},
        "best": monitored | {"value": statistics.mean(one["value"] for one in best)},
        "data": first["data"] | {"split": f"{len(children)} folds", "sizes": {}, "class_counts": {}},
        "weights": first["weights"],
        "wall_s": round(sum(child["wall_s"] for child in children), 1),
        "tests_read": 1,
    }


def join(children: Sequence[Path]) -> str:
    """Return the children's test predictions one after the other, with a column `fold`."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    for number, run in enumerate(children, 1):
        with open(run / "predictions_test.csv", encoding="utf-8", newline="") as predictions:
            header, *rows = csv.reader(predictions)
        if number == 1:
            writer.writerow([*header, "fold"])
        writer.writerows([*row, number] for row in rows)
    return file.getvalue()
