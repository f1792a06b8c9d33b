"""Cross-validation: a parent run whose children are trained on all folds but one."""

from __future__ import annotations

import contextlib
import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from src import records, summary
from src.callbacks import Every, Interrupted
from src.datamodules import Fold
from src.experiment import Experiment, InputError
from src.runner import is_main, record_failure, refuse_running, run


def cross_validate(
    asked: Experiment,
    count: int,
    *,
    baselines: bool = False,
    resume: Path | None = None,
    checkpoint_every: Every | None = None,
) -> Path:
    """Train and test an experiment once a fold; return the parent run's directory.

    The parent's record has the mean and the standard deviation of the children's metrics; `predictions_folds.csv` has
    each example's prediction by the child that has not seen it.

    Args:
        asked: as the user wants it.
        count: folds.
        baselines: fit scikit-learn's baselines on the same folds.
        resume: the directory of a cross-validation to go on with; children that are done stay as they are.
        checkpoint_every: how often to save within an epoch.

    Raises:
        InputError: as for `run`, or all is done already.
    """
    main = is_main()
    folder = resume or (records.create(type(asked)) if main else records.runs_dir() / "of-rank-0")
    if resume:
        before = records.load(resume)
        if main:
            refuse_running(resume, before)
        if before["state"] == "done":
            raise InputError(f"{resume}: the cross-validation is done. Start a new one.")
        baselines = baselines or before["with_baselines"]
    try:
        if main and not resume:
            records.start(folder, asked.resolve(), asked)
        if main:
            records.update(folder, **records.process(), folds=count, with_baselines=baselines)
        folds = [Fold(number + 1, count) for number in range(count)]
        with records.heartbeat(folder) if main else contextlib.nullcontext():
            children = [_child(asked, fold, folder, baselines, checkpoint_every) for fold in folds]
        if main:
            records.write_whole(folder / "predictions_folds.csv", join(children))
            records.update(folder, **together([records.load(child) for child in children]))
            summary.after_folds(records.load(folder), folder)
    except BaseException as error:
        if main:
            record_failure(asked, folder, error, 0.0)
            if isinstance(error, Interrupted):
                summary.interrupted(folder)
        raise
    return folder


def _child(asked: Experiment, fold: Fold, parent: Path, baselines: bool, checkpoint_every: Every | None) -> Path:
    """Run a fold, go on with it, or leave it as it is where it is done."""
    folder = parent / f"fold-{fold.number}"
    there = (folder / "run.json").is_file()
    if there and records.load(folder)["state"] == "done":
        return folder
    if fold.number > 1 and is_main():
        print(flush=True)
    return run(
        asked,
        test=True,
        baselines=baselines,
        resume=folder if there else None,
        checkpoint_every=checkpoint_every,
        fold=fold,
        parent=parent,
    )


def together(children: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the parent's record says of its children: means, and standard deviations over the folds."""
    mean, spread = mean_and_spread([child["metrics"] for child in children])
    names = children[0].get("baselines", {})
    baselines = {name: mean_and_spread([child["baselines"][name] for child in children]) for name in names}
    best = [child["best"] for child in children]
    first = children[0]
    return {
        "state": "done",
        "reason": f"{len(children)} folds done",
        "metrics": mean,
        "spread": spread,
        "baselines": {name: found[0] for name, found in baselines.items()},
        "baselines_spread": {name: found[1] for name, found in baselines.items()},
        "best": {"name": best[0]["name"], "value": statistics.mean(one["value"] for one in best)},
        "data": first["data"] | {"split": f"{len(children)} folds", "sizes": {}, "class_counts": {}},
        "weights": first["weights"],
        "wall_s": round(sum(child["wall_s"] for child in children), 1),
        "tests_read": 1,
    }


def mean_and_spread(found: Sequence[Mapping[str, float]]) -> tuple[dict[str, float], dict[str, float]]:
    """Return the mean and the sample standard deviation of each metric that all have."""
    names = [name for name in found[0] if all(name in one for one in found)]
    return tuple(
        {name: of([one[name] for one in found]) for name in names} for of in (statistics.mean, statistics.stdev)
    )  # pyright: ignore[reportReturnType]


def join(children: Sequence[Path]) -> str:
    """Return the children's test predictions one after the other, with a column `fold`."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    for number, child in enumerate(children, 1):
        with open(child / "predictions_test.csv", newline="") as predictions:
            header, *rows = csv.reader(predictions)
        if number == 1:
            writer.writerow([*header, "fold"])
        writer.writerows([*row, number] for row in rows)
    return file.getvalue()
