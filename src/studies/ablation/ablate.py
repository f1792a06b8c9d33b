"""Trains a recipe, and the recipe without each of some of its parts, with the same seeds."""

from __future__ import annotations

import contextlib
import itertools
import statistics
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from src.configs import shown
from src.configs.errors import InputError
from src.runs import records, summary
from src.runs.records import Record, TakenOver
from src.runs.tensorboard import TensorBoard
from src.studies.ablation import files
from src.studies.ablation.design import Ablation, command, label, run_name
from src.studies.ablation.results import figures_of, rows_of
from src.studies.multi_run import child, parent
from src.terminal import console
from src.training.failures import explain
from src.training.options import RunOptions
from src.training.ranks import is_rank_zero, meet, told


def ablate(asked: Ablation, options: RunOptions = RunOptions()) -> Path:
    """Train the full recipe and each variant with each seed, and write their paired differences; return the directory.

    A run that fails is recorded, and the others go on. The parent's record has `ablation` with a row for each variant;
    `ablation.md`, `ablation.tex` and `ablation.csv` lie beside it.

    Args:
        asked: what to train.
        options: how to run each. `resume` is an ablation to go on with: runs that are done stay as they are, those that
            failed are tried again. `test` compares by the test metric too.

    Raises:
        InputError: as for `run`, all is done already, or the full recipe fails with each seed.
    """
    meet(asked.recipe)
    before = told(lambda: records.load(options.resume) if options.resume else {})
    test = options.test or before.get("with_test", False)
    again = (options.test and not before.get("with_test")) or bool(before.get("ablation", {}).get("failed"))
    recipe = replace(asked.recipe, seed=asked.seeds[0])
    with parent(recipe, options.resume, again=again, ablation=asked.to_json(), with_test=test) as record:
        failed = train(asked, record.folder, replace(options, test=test))
        if is_rank_zero():
            finish(asked, record, failed)
    return record.folder


def train(asked: Ablation, folder: Path, options: RunOptions) -> dict[str, str]:
    """Run what is not done yet; return why the runs failed that did, by the names of their directories.

    Each seed has all its runs before the next one: what is done at any time can be compared, and a machine that grows
    slow does so for all variants.
    """
    failed: dict[str, str] = {}
    first: Path | None = None
    """Of the runs that are done: all others need its data."""
    for seed, (factors, experiment) in itertools.product(asked.seeds, asked.variants().items()):
        run = folder / run_name(factors, seed)
        if is_rank_zero():
            console.title(f"\n{type(experiment).__name__}, {label(factors)}, seed {seed}")
        try:
            with summary.silent() if first else contextlib.nullcontext():  # the plan, once
                child(replace(experiment, seed=seed), run, first or run, options)
        except TakenOver:
            raise
        except Exception as error:
            if torch.distributed.is_available() and torch.distributed.is_initialized():
                raise  # the other processes may be elsewhere by now: no further run could agree with them
            failed[run.name] = explain(error)
            if not isinstance(error, InputError | OSError):
                traceback.print_exception(error)
            print(f"error: {run.name}: {explain(error)}", file=sys.stderr, flush=True)
        else:
            first = first or run
            if is_rank_zero():
                say_done(run)
    if failed.keys() >= {run_name((), seed) for seed in asked.seeds}:
        raise InputError(f"{folder}: the full recipe fails with each seed: {failed[run_name((), asked.seeds[0])]}")
    return failed


def common(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the metrics that all records have."""
    return [name for name in found[0]["metrics"] if all(name in one["metrics"] for one in found)]


def say_done(run: Path) -> None:
    record = records.load(run)
    best = record.get("best")
    value = f"{best['name']} {shown.metric(best['value'])}, " if best else ""
    console.line("done", f"{value}{record['wall_s']:.1f} s  {run}")


def finish(asked: Ablation, record: Record, failed: Mapping[str, str]) -> None:
    """Compare the runs that are done, write the files and the parent's record, and print the result."""
    runs = {
        factors: {seed: record.folder / run_name(factors, seed) for seed in asked.seeds} for factors in asked.variants()
    }
    figures = {
        factors: {seed: found for seed, run in of.items() if (found := figures_of(run))} for factors, of in runs.items()
    }
    rows = rows_of(figures, {key: command(one, asked.seeds[0]) for key, one in asked.variants().items()})
    full = [records.load(runs[()][seed]) for seed in figures[()]]
    if not (best := full[0].get("best")):
        raise InputError(f"--monitor {asked.recipe.monitor}: was not logged, so there is nothing to compare.")
    count = sum(map(len, runs.values()))
    record.update(
        **{part: full[0][part] for part in ("data", "weights", "device", "precision")},
        state="done",
        reason=f"{count - len(failed)} of {count} runs done",
        ablation=asked.to_json() | {"rows": [row.to_json() for row in rows], "failed": dict(failed)},
        metrics={name: statistics.mean(one["metrics"][name] for one in full) for name in common(full)},
        best={part: best[part] for part in ("name", "mode")}
        | {"value": statistics.mean(one["best"]["value"] for one in full)},
        wall_s=round(sum(one.get("wall_s", 0.0) for of in figures.values() for one in of.values()), 1),
        tests_read=max(one["tests_read"] for one in full),
    )
    files.write(record.folder, record, rows)
    if "tensorboard" in asked.recipe.logger:
        tensorboard = TensorBoard(record.folder)
        tensorboard.log_table("ablation", files.cells(rows))
        tensorboard.finalize("success")  # its thread would stay
    files.show(record.folder, record, rows)
