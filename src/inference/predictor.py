"""Predictions from a run directory: the same preparation and weights as in the run's own evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from lightning.pytorch import LightningModule
from torch import nn

from src.configs.errors import InputError
from src.configs.spec import DataSpec
from src.configs.training import Accelerator
from src.datamodules import DataModule, PredictionInput
from src.datamodules.capabilities import PredictsFiles
from src.experiment import Experiment
from src.inference.predictions import DIGITS, Predictions
from src.loading import load
from src.resources.weights_files import load_weights
from src.runs import records, state
from src.tasks import Objective, Task
from src.training.trainer import build_trainer


class OwnParts(InputError):
    """The run is of a module or data module of the user's own: nothing is known of its raw inputs, or its outputs."""


def load_run(run: Path) -> tuple[Experiment, DataSpec, Task]:
    """Return a run's experiment, data spec and task with its best weights.

    Raises:
        OwnParts: its module is one of the user's own.
        InputError: no run, no checkpoint in it, or one that is damaged or of other code.
    """
    experiment, spec, task = _untrained(run)
    if not isinstance(task, Task):
        raise OwnParts(f"{run}: {type(task).__name__} is a module of your own, whose outputs are not known here.")
    load_best(run, records.load(run), task)
    return experiment, spec, task


def load_module(run: Path) -> tuple[Experiment, LightningModule]:
    """Return a run's experiment, and its task or the user's own module with its best weights.

    Raises:
        InputError: no run, no checkpoint in it, or one that is damaged or of other code.
    """
    experiment, _, module = _untrained(run)
    load_best(run, records.load(run), module)
    return experiment, module


def _untrained(run: Path) -> tuple[Experiment, DataSpec, LightningModule]:
    record = records.load(run)
    records.refuse_study(run, record)
    with records.explain_record_errors(run, record):
        experiment = load(record["experiment"]).from_json(record["fields"]).for_inference(run)
        spec = replace(records.spec_of(record), vectors="")  # the checkpoint has what became of them
    return experiment, spec, experiment.task(spec)


def load_best(run: Path, record: Mapping[str, Any], module: nn.Module) -> None:
    """Load the best weights of a run into its module.

    Raises:
        InputError: there are none, or they are damaged or of other code.
    """
    path = run / "checkpoints" / "best.ckpt"
    if not path.is_file():
        raise InputError(f"{path}: not there; the run {_now(run, record)} and has saved no best checkpoint.")
    try:
        module.load_state_dict(load_weights(path)["state_dict"])
    except Exception as error:  # torch raises a dozen kinds for damaged files
        raise InputError(f"{path}: cannot be loaded: {str(error).strip()[:300]}") from error


def _now(run: Path, record: Mapping[str, Any]) -> str:
    return state.in_words(state.state_of(run, record))


def predict(
    run: Path,
    inputs: Sequence[PredictionInput],
    *,
    accelerator: Accelerator = "auto",
    calibrate: bool = True,
    threshold: bool = False,
) -> Predictions:
    """Predict every input.

    A run with children, an ensemble or a cross-validation, predicts the mean of what they predict, weighted by their
    shares where its record has such.

    Args:
        run: the run directory; nothing else of the run is needed, neither its data nor its first weights.
        inputs: files, or what is in memory already; see `Preparation.read`.
        accelerator: the device, as `--accelerator` of run.py.
        calibrate: divide the logits by the temperature that the run found on its validation data. It changes no label.
        threshold: of two classes, predict the second where its calibrated probability reaches the threshold that the
            run found on its validation data. Without it, the more likely class is predicted, as in the run's own
            metrics.

    Raises:
        InputError: what the user can put right, such as a threshold where the run has none.
    """
    record = records.load(run)
    calibration = record.get("calibration", {})
    if threshold and calibration.get("threshold") is None:
        raise InputError(f"--threshold: {run} has none; only a finished run of two classes chooses one. Leave it out.")
    parts = [outputs(part, inputs, accelerator) for part in parts_of(run, record, inputs)]
    datamodule, objective, ids = parts[0].datamodule, parts[0].objective, parts[0].ids
    errors = [next(filter(None, each), "") for each in zip(*(part.errors for part in parts), strict=True)]
    shares = record.get("shares")
    predicted = {name: np.average([part.predicted[name] for part in parts], 0, shares) for name in parts[0].predicted}
    decided = objective.decide(predicted, calibration, threshold=threshold)
    notes = objective.agreement(predicted, decided, datamodule.prepared.expected, [not why for why in errors])
    shown = objective.calibrated(predicted, calibration) if calibrate else predicted
    columns = objective.columns(shown, digits=DIGITS, decided=decided)
    return Predictions(datamodule.prepared.id_name, ids, columns, errors, [*datamodule.notes, *notes])


def parts_of(run: Path, record: dict[str, Any], inputs: Sequence[PredictionInput]) -> list[Path]:
    """Return the runs that predict: the run itself, or its children.

    Raises:
        InputError: the run's children are not all done, or the inputs can be read only once.
    """
    records.refuse_study(run, record)
    count = record.get("ensemble") or record.get("folds")
    if not count:
        return [run]
    children = state.children(run)
    if record["state"] != "done" or len(children) != count:
        raise InputError(
            f"{run}: the run {_now(run, record)}. Go on with it (run.py --resume {run}), or name one of its children."
        )
    if any(isinstance(one, Path) and one == Path("-") for one in inputs):
        raise InputError("-: a run with children reads its inputs once a child. Name a file, or one of its children.")
    return children


def that_counts_most(run: Path) -> tuple[Path, list[str]]:
    """Return a run, or the member that counts most of an average by shares, and a note that says so.

    Raises:
        InputError: its members all count the same.
    """
    if not (children := state.children(run)):
        return run, []
    if not (shares := records.load(run).get("shares")):
        raise InputError(f"{run}: its children have the weights. Explain one of them: {children[0]}.")
    share, member = max(zip(shares, children, strict=True))
    return member, [f"{member} is explained, which counts for {share:.0%} of the average of {len(children)} runs"]


class Outputs(NamedTuple):
    """What one network says of the inputs."""

    datamodule: DataModule
    objective: Objective
    ids: Sequence[str]
    predicted: dict[str, np.ndarray]
    """What the task's `predict_step` returns, [inputs, ...]; 0 where there is an error."""
    errors: list[str]


def prepared(run: Path, inputs: Sequence[PredictionInput]) -> tuple[Experiment, Task, DataModule, Sequence[str]]:
    """Return a run's experiment, its task with the best weights, its data module ready for the inputs, and their ids.

    Raises:
        InputError: the run cannot be loaded, or the inputs are of another kind than its data.
    """
    experiment, spec, task = load_run(run)
    datamodule = restored(run, experiment)
    return experiment, task, datamodule, datamodule.prepare_prediction(inputs, spec)


def restored(run: Path, experiment: Experiment) -> DataModule:
    """Return a data module that can read inputs to predict as the run does; it has no data.

    Raises:
        OwnParts: the run's data module reads none.
    """
    datamodule = experiment.datamodule()
    if not (isinstance(datamodule, DataModule) and isinstance(datamodule, PredictsFiles)):
        raise OwnParts(f"{run}: {type(datamodule).__name__} cannot read inputs to predict.")
    datamodule.restore(run)
    return datamodule


def batch_of(run: Path, inputs: Sequence[PredictionInput]) -> dict[str, Any]:
    """Return the inputs as one batch, as the run's task takes it.

    Raises:
        InputError: an input that cannot be read.
    """
    _, _, datamodule, ids = prepared(run, inputs)
    dataset: Any = datamodule.predict_dataloader().dataset
    batch: dict[str, Any] = dataset[list(range(len(ids)))]
    for row, why in batch.pop("error").items():
        raise InputError(f"{ids[row]}: {why}.")
    return batch


def outputs(run: Path, inputs: Sequence[PredictionInput], accelerator: Accelerator) -> Outputs:
    """Return what the network of a run, not its children's, says of the inputs."""
    record = records.load(run)
    experiment, task, datamodule, ids = prepared(run, inputs)
    trainer = build_trainer(
        replace(experiment, accelerator=accelerator, devices="1", num_nodes=1, strategy="auto"),
        [],
        logger=False,
        folder=run,
        precision=record["precision"] if "precision_speeds" in record else None,  # flags do not tell what was measured
    )
    errors = [""] * len(ids)
    predicted: dict[str, np.ndarray] = {}
    batches: list[Any] = trainer.predict(task, datamodule=datamodule) or []
    for batch in batches:
        for position, why in batch.pop("error").items():
            errors[position] = why
        index = batch.pop("index").numpy()  # numpy takes a tensor of one for a number
        for name, values in batch.items():
            array = values.numpy()
            predicted.setdefault(name, np.zeros((len(ids), *array.shape[1:]), array.dtype))[index] = array
    return Outputs(datamodule, task.objective, ids, predicted, errors)
