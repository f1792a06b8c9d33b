"""Predictions from a run directory: the same preparation and weights as in the run's own evaluation."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from src import records
from src.callbacks.evaluation import predictions_csv
from src.experiment import Accelerator, DataSpec, Experiment, InputError, from_json, load, replace
from src.tasks import Task
from src.trainer import build_trainer, quieten


def load_run(run: Path) -> tuple[Experiment, DataSpec, Task]:
    """Return a run's experiment, data spec and task with its best weights.

    Raises:
        InputError: no run, no checkpoint in it, or one that is damaged or of other code.
    """
    record = records.load(run)
    path = run / "checkpoints" / "best.ckpt"
    if not path.is_file():
        raise InputError(f"{path}: not there; the run is {record['state']} and has saved no best checkpoint.")
    experiment = load(record["experiment"]).from_json(record["fields"])
    spec = from_json(DataSpec, record["spec"])
    task = replace(experiment, weights="none").task(spec)
    try:
        task.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])
    except Exception as error:  # torch raises a dozen kinds for damaged files
        raise InputError(f"{path}: cannot be loaded: {str(error).strip()[:300]}") from error
    return experiment, spec, task


def predict(run: Path, inputs: Sequence[Path], *, accelerator: Accelerator = "auto") -> tuple[str, int]:
    """Predict every input.

    Args:
        run: the run directory; nothing else of the run is needed, neither its data nor its first weights.
        inputs: files and folders (searched through).
        accelerator: the device, as `--accelerator` of run.py.

    Returns:
        The CSV `id,label,prob_<class>...,error`, a row an input in their order, and the number of inputs with an error.
    """
    quieten()
    experiment, spec, task = load_run(run)
    datamodule = experiment.datamodule()
    ids = datamodule.prepare_prediction(inputs, spec)
    trainer = build_trainer(
        replace(experiment, accelerator=accelerator, devices="1", num_nodes=1, strategy="auto"), [], logger=False
    )
    prob = np.zeros((len(ids), spec.num_classes), np.float32)
    errors = [""] * len(ids)
    batches: list[Any] = trainer.predict(task, datamodule=datamodule) or []
    for batch in batches:
        prob[batch["index"]] = batch["prob"].float()
        for position, why in batch["error"].items():
            errors[position] = why
    return predictions_csv(ids, prob, spec.classes, errors=errors), sum(map(bool, errors))


def write(run: Path, inputs: Sequence[Path], out: Path | None, *, accelerator: Accelerator = "auto") -> int:
    """Predict, and write the CSV to `out`, or print it; return the exit code."""
    text, failed = predict(run, inputs, accelerator=accelerator)
    if out is None:
        print(text, end="", flush=True)
    else:
        records.write_whole(out, text)
    rows = text.count("\n") - 1
    print(f"{rows} rows, {failed} with an error{f', in {out}' if out else ''}", file=sys.stderr)
    return 0
