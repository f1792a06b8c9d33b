"""Predictions from a run directory: the same preparation and weights as in the run's own evaluation."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from src import records
from src.callbacks.evaluation import predictions_csv
from src.datamodules.splits import is_number
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
    experiment = load(record["experiment"]).from_json(record["fields"]).restored(run)
    spec = replace(from_json(DataSpec, record["spec"]), vectors="")  # the checkpoint has what became of them
    task = experiment.task(spec)
    try:
        task.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])
    except Exception as error:  # torch raises a dozen kinds for damaged files
        raise InputError(f"{path}: cannot be loaded: {str(error).strip()[:300]}") from error
    return experiment, spec, task


class Predictions(NamedTuple):
    """What was predicted."""

    text: str
    """CSV `id,label,prob_<class>...,error`, a row an input, in their order."""
    failed: int
    """Inputs with an error."""
    notes: list[str]
    """The accuracy, where the inputs came with labels."""


def predict(run: Path, inputs: Sequence[Path], *, accelerator: Accelerator = "auto") -> Predictions:
    """Predict every input.

    Args:
        run: the run directory; nothing else of the run is needed, neither its data nor its first weights.
        inputs: pictures and folders of them (searched through); for texts tables, `.txt` files, or `-`, standard input.
        accelerator: the device, as `--accelerator` of run.py.
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
    text = predictions_csv(ids, prob, spec.classes, errors=errors)
    label = [-1 if why else int(row.argmax()) for row, why in zip(prob, errors, strict=True)]
    return Predictions(text, sum(map(bool, errors)), compare(label, datamodule.expected, spec.classes))


def compare(label: Sequence[int], expected: Sequence[str], classes: Sequence[str]) -> list[str]:
    """Say how many predicted classes are those that the inputs came with, and which of these the run does not know.

    Numbers are taken for positions among the classes where no class is a number itself.
    """
    known = {name: target for target, name in enumerate(classes)}
    if not any(is_number(name) for name in classes):
        known |= {str(target): target for target in range(len(classes))}
    there = [(found, name) for found, name in zip(label, expected, strict=False) if name and found >= 0]
    strange = sorted({name for _, name in there if name not in known})
    right = [found == known[name] for found, name in there if name in known]
    notes = [f"accuracy {sum(right) / len(right):.4f} on {len(right)} rows with a label"] if right else []
    if strange:
        left_out = len(there) - len(right)
        shown = ", ".join(strange[:5])
        notes.append(f"{left_out} rows have labels that training had not ({shown}); it knew {', '.join(classes)}")
    return notes


def write(run: Path, inputs: Sequence[Path], out: Path | None, *, accelerator: Accelerator = "auto") -> int:
    """Predict, and write the CSV to `out`, or print it; return the exit code."""
    text, failed, notes = predict(run, inputs, accelerator=accelerator)
    if out is None:
        print(text, end="", flush=True)
    else:
        records.write_whole(out, text)
    rows = text.count("\n") - 1
    for line in (f"{rows} rows, {failed} with an error{f', in {out}' if out else ''}", *notes):
        print(line, file=sys.stderr)
    return 0
