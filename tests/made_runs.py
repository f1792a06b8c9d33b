"""Run directories as the runner writes them, made without training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.runs.compare.runs import Run, read

FIELDS: dict[str, Any] = {
    "seed": 0,
    "max_epochs": 3,
    "batch_size": 32,
    "precision": "auto",
    "optim": {"name": "adamw", "lr": 0.001},
}


def record_of(
    seed: int = 0,
    value: float = 0.9,
    *,
    experiment: str = "experiments.cats.Cats",
    monitor: str = "val/acc",
    metrics: Mapping[str, float] | None = None,
    data: Mapping[str, Any] | None = None,
    fields: Mapping[str, Any] | None = None,
    **others: Any,
) -> dict[str, Any]:
    """Return a finished run's record; `fields`, `data` and `others` replace parts of it."""
    found = {"source": "folder /data/cats", "stand_in": False, "split": "as given", "fingerprint": "f00d"}
    found["sizes"] = {"train": 70, "val": 15, "test": 15}
    return {
        "experiment": experiment,
        "fields": FIELDS | {"seed": seed} | dict(fields or {}),
        "asked": {},
        "seed": seed,
        "state": "done",
        "reason": "max_epochs 3 reached",
        "started": f"2026-11-22T10:00:{seed % 60:02}Z",
        "git": {"commit": "c0ffee", "dirty": False},
        "versions": {"torch": "2.15.0"},
        "host": "vm",
        "pid": 1,
        "tests_read": 0,
        "data": found | dict(data or {}),
        "weights": {"source": "imagenet"},
        "device": "cpu x 1",
        "precision": "32-true",
        "wall_s": 1.5,
        "best": {"name": monitor, "value": value, "epoch": 2, "step": 20},
        "metrics": dict(metrics if metrics is not None else {"val/loss": 0.5, monitor: value}),
    } | others


def make_run(folder: Path, record: Mapping[str, Any], curve: Sequence[float] = (0.7, 0.6, 0.5)) -> Run:
    """Write a run with its record and a curve of train/loss, val/loss and val/acc; return it as read."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(record))
    rows = [
        f"0.0,{epoch},{10 * epoch},{name},{value}"
        for epoch, value in enumerate(curve, 1)
        for name in ("train/loss", "val/loss", "val/acc")
    ]
    (folder / "metrics.csv").write_text("\n".join(["time,epoch,step,name,value", *rows]) + "\n")
    return read(folder)


def make_seeds(folder: Path, values: Sequence[float], **changes: Any) -> list[Run]:
    """Write a finished run for each value, of seeds 0, 1, ..."""
    return [make_run(folder / f"run-{seed}", record_of(seed, value, **changes)) for seed, value in enumerate(values)]


def write_labels(run: Path, target: Sequence[str], label: Sequence[str], split: str = "val") -> None:
    """Write predictions of classes a and b; ids are the rows."""
    rows = [f"{i},{t},{p},0.5,0.5" for i, (t, p) in enumerate(zip(target, label, strict=True))]
    (run / f"predictions_{split}.csv").write_text("\n".join(["id,target,label,prob_a,prob_b", *rows]) + "\n")


def write_numbers(run: Path, target: np.ndarray, prediction: np.ndarray, split: str = "val") -> None:
    rows = [f"{i},{t!r},{p!r}" for i, (t, p) in enumerate(zip(target.tolist(), prediction.tolist(), strict=True))]
    (run / f"predictions_{split}.csv").write_text("\n".join(["id,target,prediction", *rows]) + "\n")
