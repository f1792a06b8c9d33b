"""Predictions from a run directory: the same preparation and weights as in the run's own evaluation."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.metrics import r2_score

from src.callbacks.evaluation import predictions_csv
from src.configs.errors import InputError
from src.configs.jsonable import from_json
from src.configs.spec import DataSpec
from src.configs.training import Accelerator
from src.datamodules import DataModule
from src.datamodules.splits import is_number
from src.experiment import Experiment
from src.loading import load
from src.resources.files import atomic_write
from src.runs import records, state
from src.tasks import Task
from src.tasks.objectives import calibration
from src.training.trainer import build_trainer, quieten


def load_run(run: Path) -> tuple[Experiment, DataSpec, Task]:
    """Return a run's experiment, data spec and task with its best weights.

    Raises:
        InputError: no run, no checkpoint in it, or one that is damaged or of other code.
    """
    record = records.load(run)
    path = run / "checkpoints" / "best.ckpt"
    if not path.is_file():
        raise InputError(f"{path}: not there; the run is {record['state']} and has saved no best checkpoint.")
    with records.explain_record_errors(run, record):
        experiment = load(record["experiment"]).from_json(record["fields"]).for_inference(run)
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
    """CSV `id,label,prob_<class>...,error` or `id,prediction[,lower,upper],error`, a row an input, in their order."""
    failed: int
    """Inputs with an error."""
    notes: list[str]
    """What the user should know, and the score where the inputs came with labels."""


def predict(
    run: Path,
    inputs: Sequence[Path],
    *,
    accelerator: Accelerator = "auto",
    calibrate: bool = True,
    threshold: bool = False,
) -> Predictions:
    """Predict every input.

    A run with children, an ensemble or a cross-validation, predicts the mean of what they predict.

    Args:
        run: the run directory; nothing else of the run is needed, neither its data nor its first weights.
        inputs: pictures and folders of them (searched through), or tables; for texts `.txt` files too; or `-`, standard
            input.
        accelerator: the device, as `--accelerator` of run.py.
        calibrate: divide the logits by the temperature that the run found on its validation data. It changes no label.
        threshold: of two classes, predict the second where its calibrated probability reaches the threshold that the
            run found on its validation data, in place of the likelier. Without it, labels are those that the run's own
            metrics are of.

    Raises:
        InputError: what the user can put right, such as a threshold where the run has none.
    """
    quieten()
    record = records.load(run)
    kept = record.get("calibration", {"temperature": 1.0, "threshold": None})
    if threshold and kept["threshold"] is None:
        raise InputError(f"--threshold: {run} has none; only a finished run of two classes chooses one. Leave it out.")
    parts = [outputs(part, inputs, accelerator) for part in parts_of(run, record, inputs)]
    datamodule, spec, ids = parts[0].datamodule, parts[0].spec, parts[0].ids
    errors = [next(filter(None, each), "") for each in zip(*(part.errors for part in parts), strict=True)]
    found = {name: np.mean([part.found[name] for part in parts], axis=0) for name in parts[0].found}
    usable = [not why for why in errors]
    predicted = None
    if spec.classes:
        calibrated = calibration.with_temperature(found["prob"], kept["temperature"])
        predicted = calibration.labels(calibrated, kept["threshold"]) if threshold else found["prob"].argmax(1)
        found["prob"] = calibrated if calibrate else found["prob"]
        label = np.where(usable, predicted, -1).tolist()
        notes = compare(label, datamodule.expected, spec.classes)
    else:
        notes = compare_numbers(found["prediction"], datamodule.expected, usable, spec.target.name)
    text = predictions_csv(ids, found, spec.classes, errors=errors, label=predicted)
    return Predictions(text, sum(map(bool, errors)), [*datamodule.notes, *notes])


def parts_of(run: Path, record: dict[str, Any], inputs: Sequence[Path]) -> list[Path]:
    """Return the runs that predict: the run itself, or its children.

    Raises:
        InputError: the run's children are not all done, or the inputs can be read only once.
    """
    count = record.get("ensemble") or record.get("folds")
    if not count:
        return [run]
    children = state.children(run)
    if record["state"] != "done" or len(children) != count:
        raise InputError(
            f"{run}: the run is {record['state']}. Go on with it (run.py --resume {run}), or name one of its children."
        )
    if Path("-") in inputs:
        raise InputError("-: a run with children reads its inputs once a child. Name a file, or one of its children.")
    return children


class Outputs(NamedTuple):
    """What one network says of the inputs."""

    datamodule: DataModule
    spec: DataSpec
    ids: Sequence[str]
    found: dict[str, np.ndarray]
    """What the task's `predict_step` returns, [inputs, ...]; 0 where there is an error."""
    errors: list[str]


def outputs(run: Path, inputs: Sequence[Path], accelerator: Accelerator) -> Outputs:
    """Return what the network of a run, not its children's, says of the inputs."""
    record = records.load(run)
    experiment, spec, task = load_run(run)
    datamodule = experiment.datamodule()
    datamodule.restore(run)
    ids = datamodule.prepare_prediction(inputs, spec)
    trainer = build_trainer(
        replace(experiment, accelerator=accelerator, devices="1", num_nodes=1, strategy="auto"),
        [],
        logger=False,
        precision=record["precision"] if "precision_speeds" in record else None,  # flags do not tell what was measured
    )
    errors = [""] * len(ids)
    found: dict[str, np.ndarray] = {}
    batches: list[Any] = trainer.predict(task, datamodule=datamodule) or []
    for batch in batches:
        for position, why in batch.pop("error").items():
            errors[position] = why
        index = batch.pop("index")
        for name, values in batch.items():
            found.setdefault(name, np.zeros((len(ids), *values.shape[1:]), np.float32))[index] = values.float()
    return Outputs(datamodule, spec, ids, found, errors)


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


def compare_numbers(found: np.ndarray, expected: Sequence[str], usable: Sequence[bool], name: str) -> list[str]:
    """Say how far the predictions are from the numbers that the inputs came with, where there are two at least."""
    pairs = [
        (value, float(true))
        for value, true, there in zip(found, expected, usable, strict=False)
        if there and is_number(true)
    ]
    if len(pairs) < 2:
        return []
    prediction, target = np.array(pairs, np.float64).T
    rmse = float(np.sqrt(np.mean((prediction - target) ** 2)))
    return [f"rmse {rmse:.4g}, r2 {r2_score(target, prediction):.4f} on {len(pairs)} rows with a {name}"]


def write(
    run: Path,
    inputs: Sequence[Path],
    out: Path | None,
    *,
    accelerator: Accelerator = "auto",
    calibrate: bool = True,
    threshold: bool = False,
) -> int:
    """Predict, and write the CSV to `out`, or print it; return the exit code."""
    if out and out.is_dir():
        raise InputError(f"--out {out}: a folder. Name a file in it.")
    text, failed, notes = predict(run, inputs, accelerator=accelerator, calibrate=calibrate, threshold=threshold)
    if out is None:
        print(text, end="", flush=True)
    else:
        try:
            atomic_write(out, text)
        except OSError as error:
            print(text, end="", flush=True)
            raise InputError(
                f"--out {out}: cannot be written ({error.strerror or error}); the predictions went to standard output."
            ) from error
    rows = sum(1 for _ in csv.reader(io.StringIO(text, newline=""))) - 1  # a name may have line breaks
    for line in (f"{rows} rows, {failed} with an error{f', in {out}' if out else ''}", *notes):
        print(line, file=sys.stderr)
    return 0
