"""A model that has left its run: its preparation, its graph in onnxruntime, and its certificate. It needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from src.answers import Answers, answers_for
from src.configs.errors import InputError
from src.configs.jsonable import from_json
from src.configs.spec import DataSpec, Target
from src.datamodules import preparation
from src.datamodules.preparation import PredictionInput, Preparation, Prepared, read_json
from src.inference.predictions import DIGITS, Predictions
from src.resources.files import digest_of

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

CERTIFICATE, MODEL, GRAPH = "certificate.json", "model.json", "model.onnx"
CERTIFIED: dict[str, Sequence[str] | None] = {
    "format": None,
    "preparation": None,
    "files": (),
    "versions": (),
    "model": (),
    "run": ("experiment",),
}
"""What prediction needs of a certificate: field -> fields within it, None for one that has none."""
AT_ONCE = 32
"""Inputs a batch; rows of a table come in thousands."""
ROWS_AT_ONCE = 1024


class Outputs(NamedTuple):
    """What the graph says of inputs."""

    values: dict[str, np.ndarray]
    """Output of the graph -> [inputs, ...]; 0 where there is an error."""
    errors: list[str]
    """Why an input has no answer, '' where it has one."""


class Network:
    """A graph in onnxruntime. Threads may share it.

    Args:
        session: of the graph.
    """

    def __init__(self, session: InferenceSession) -> None:
        self.session = session
        self.input_names = {node.name for node in session.get_inputs()}  # one that needs no mask has none
        self.output_names = [node.name for node in session.get_outputs()]

    def __call__(self, arrays: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Return the outputs for a batch, as each of the preparations has it."""
        feeds = {
            node: np.ascontiguousarray(values)
            for number, batch in enumerate(arrays)
            for name, values in batch.items()
            if (node := name_of(name, number)) in self.input_names
        }
        outputs: Any = self.session.run(None, feeds)
        return dict(zip(self.output_names, outputs, strict=True))


class Batch(NamedTuple):
    """Some inputs as the graph takes them."""

    keys: list[int]
    """Positions of the inputs that can be read."""
    arrays: list[dict[str, np.ndarray]]
    """For each preparation name -> array [len(keys), ...]."""
    errors: dict[int, str]
    """Position of each other input -> why it cannot be read."""


@dataclass(frozen=True, eq=False)
class Exported:
    """An export, ready to answer. Threads may share it.

    Args:
        folder: where it is.
        certificate: what was proved of it.
        preparations: what becomes of an input; several for a cross-validation, whose folds were fitted apart.
        network: its graph.
        answers: how its outputs are said.
    """

    folder: Path
    certificate: dict[str, Any]
    preparations: list[Preparation]
    network: Network
    answers: Answers

    @property
    def kind(self) -> str:
        """What goes in: image, text or table."""
        return self.preparations[0].kind

    @property
    def output_names(self) -> list[str]:
        return self.network.output_names

    def read(self, inputs: Sequence[PredictionInput], notes: list[str]) -> list[Prepared]:
        """Read inputs by each of the preparations; see `Preparation.read`."""
        if len(self.preparations) > 1 and any(isinstance(one, Path) and one == Path("-") for one in inputs):
            raise InputError("-: a cross-validation reads its inputs once a fold. Name a file.")
        first, *others = self.preparations
        return [first.read(inputs, notes), *(how.read(inputs, []) for how in others)]

    def outputs(self, prepared: Sequence[Prepared]) -> Outputs:
        """Return what the graph says of inputs that `read` has read, in batches of like length."""
        return self.collected(len(prepared[0]), self.batches(prepared))

    def batches(self, prepared: Sequence[Prepared]) -> Iterator[Batch]:
        """Yield inputs that `read` has read as arrays for the graph: images are decoded here."""
        for keys in self._batches(prepared[0]):
            arrays = [one.arrays(keys) for one in prepared]
            bad = {key: why for one in reversed(arrays) for key, why in one.errors.items()}
            if any(len(one.keys) + len(bad) > len(keys) for one in arrays):  # what another preparation refuses
                arrays = [one.arrays([key for key in keys if key not in bad]) for one in prepared]
            yield Batch(arrays[0].keys, [one.values for one in arrays], bad)

    def collected(self, count: int, batches: Iterable[Batch]) -> Outputs:
        """Return what the graph says of `count` inputs that `batches` has made arrays of."""
        values: dict[str, np.ndarray] = {}
        errors = [""] * count
        for keys, arrays, bad in batches:
            for key, why in bad.items():
                errors[key] = why
            for name, answers in self.network(arrays).items() if keys else ():
                values.setdefault(name, np.zeros((count, *answers.shape[1:]), answers.dtype))[keys] = answers
        for output in self.network.session.get_outputs() if not values else ():  # nothing could be read
            width = [side for side in output.shape[1:] if isinstance(side, int)]
            values[output.name] = np.zeros((count, *width), np.int64 if "int" in output.type else np.float64)
        return Outputs(values, errors)

    def _batches(self, prepared: Prepared) -> Iterator[list[int]]:
        lengths, size = prepared.lengths, ROWS_AT_ONCE if self.kind == "table" else AT_ONCE
        order = np.arange(len(prepared)) if lengths is None else np.argsort(lengths, kind="stable")
        for start in range(0, len(order), size):
            yield order[start : start + size].tolist()

    def predict(
        self, inputs: Sequence[PredictionInput], *, calibrate: bool = True, threshold: bool = False
    ) -> Predictions:
        """Predict every input; see `inference.predictor.predict`.

        Raises:
            InputError: what the user can put right, such as a threshold where the run has none.
        """
        notes: list[str] = []
        prepared = self.read(inputs, notes)
        values, errors = self.outputs(prepared)
        shown, decided = self.decided(values, calibrate=calibrate, threshold=threshold)
        columns = self.answers.columns(shown, digits=DIGITS, decided=decided)
        said = self.answers.agreement(shown, decided, prepared[0].expected, [not why for why in errors])
        return Predictions(prepared[0].id_name, prepared[0].ids, columns, errors, [*notes, *said])

    def decided(
        self, values: dict[str, np.ndarray], *, calibrate: bool = True, threshold: bool = False
    ) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """Return the predictions that are shown, and the labels that are given, of the graph's outputs.

        Raises:
            InputError: a threshold is asked for, and the run has none.
        """
        shown = dict(values)
        uncalibrated = shown.pop("prob_uncalibrated", shown.get("prob"))
        likeliest, by_threshold, labels = (shown.pop(name, None) for name in ("label", "label_by_threshold", "labels"))
        if threshold and by_threshold is None:
            raise InputError(
                f"--threshold: {self.folder} has none; only a finished run of two classes chooses one. Leave it out."
            )
        if not calibrate and uncalibrated is not None:
            shown["prob"] = uncalibrated
        return shown, by_threshold if threshold else labels if labels is not None else likeliest


def name_of(name: str, number: int) -> str:
    """Return the graph's input for an array of a preparation, counted from 0."""
    return f"{name}_{number + 1}" if number else name


def is_export(path: Path) -> bool:
    """Return whether a folder is, or was meant to be, an export."""
    return (path / CERTIFICATE).is_file() or (path / MODEL).is_file()


def load(folder: Path, *, threads: int = 0) -> Exported:
    """Return an export whose files are those that were certified.

    Args:
        folder: runs/<Experiment>/<id>/export/onnx, or a copy of it.
        threads: that share the work of one batch; 0 for all cores.

    Raises:
        InputError: it is no export, a file of it is missing or another one, or onnxruntime cannot read it.
    """
    certificate = certificate_of(folder)
    if certificate["format"] != "onnx":
        raise InputError(f"{folder}: an export for {certificate['format']}; only that for onnx is predicted with here.")
    if not certificate["preparation"]:
        inputs = ", ".join(certificate["model"]["inputs"])
        raise InputError(
            f"{folder}: made of a module or data module of your own, so nothing is known here of how a raw input "
            f"becomes what it takes ({inputs}). Run {folder / GRAPH} with onnxruntime yourself."
        )
    require_fields(folder, certificate, {"files": (GRAPH, MODEL), "parity": ("bound",)})
    described = read_json(folder / MODEL)
    spec = DataSpec(classes=tuple(described["classes"]), target=from_json(Target, described["target"]))
    return Exported(
        folder, certificate, preparations(folder), open_network(folder, certificate, threads), answers_for(spec)
    )


def preparations(folder: Path) -> list[Preparation]:
    """Return what an export does to raw inputs; raise an InputError where that cannot be read."""
    return [preparation.load(folder / name) for name in read_json(folder / MODEL)["preparations"]]


def require_fields(folder: Path, certificate: dict[str, Any], names: Mapping[str, Sequence[str] | None]) -> None:
    """Raise an InputError unless the certificate of an export has these fields; see `CERTIFIED`."""
    for name, inner in names.items():
        if name not in certificate or (inner is not None and not isinstance(certificate[name], dict)):
            raise InputError(f"{folder / CERTIFICATE}: has no {name}. Export the run again.")
        if missing := [key for key in inner or () if key not in certificate[name]]:
            raise InputError(f"{folder / CERTIFICATE}: {name} has no {missing[0]}. Export the run again.")


def certificate_of(folder: Path) -> dict[str, Any]:
    """Return the certificate of an export; raise an InputError where a file is not what was certified."""
    certificate = read_json(folder / CERTIFICATE)
    require_fields(folder, certificate, CERTIFIED)
    for name, digest in certificate["files"].items():
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(f"{path}: outside the export. Its certificate is not one of Leyden's.")
        if not path.is_file():
            raise InputError(f"{path}: missing; the certificate names it. Export the run again, or copy it whole.")
        if digest_of(path) != digest:
            raise InputError(
                f"{path}: not the file that was certified (another SHA-256). Export the run again, or copy it whole."
            )
    return certificate


def open_network(folder: Path, certificate: dict[str, Any], threads: int) -> Network:
    """Return an export's graph in onnxruntime; raise an InputError where that is missing, or cannot read it."""
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(f"{folder}: needs onnxruntime ({error}). pip install -e '.[deploy]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # its warnings are of the graph's making, not of its use
    try:
        return Network(onnxruntime.InferenceSession(str(folder / GRAPH), options, providers=["CPUExecutionProvider"]))
    except Exception as error:  # onnxruntime raises kinds of its own
        made_with = certificate["versions"].get("onnxruntime", "?")
        raise InputError(
            f"{folder / GRAPH}: onnxruntime {onnxruntime.__version__} cannot read it (opset "
            f"{certificate['model']['opset']}, made with onnxruntime {made_with}): {str(error).strip()[:300]}"
        ) from error
