"""From a run to exports: model, preparation, worked examples and a certificate, or an error and nothing."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from src.configs.errors import InputError
from src.configs.export import FormatName
from src.deploy.certificate import new_certificate, requirements, show, size
from src.deploy.formats import Format, format_of
from src.deploy.licences import licences
from src.deploy.parity import Answer
from src.deploy.parts import take_apart
from src.deploy.plain import PlainSource
from src.deploy.prepared import PreparedSource
from src.deploy.source import Source
from src.inference import exported
from src.inference.predictor import OwnParts
from src.resources.files import atomic_write, write_json
from src.runs.exports import exports_of
from src.runs.summary import installed
from src.runs.tensorboard import TensorBoard
from src.terminal import console


class Exports(NamedTuple):
    """What came of several formats."""

    folders: dict[FormatName, Path]
    """Those that held."""
    failures: dict[FormatName, InputError]
    """Why there is no other."""


def export(run: Path, *, examples: int = 8) -> Path:
    """Export a run as ONNX beside its preparation, checked from the raw file to the answer; return the folder.

    Args:
        run, examples: see `export_formats`.

    Raises:
        InputError: the run cannot be exported, or its export does not answer as it does.
    """
    return _export(source_of(run), "onnx", examples)


def export_formats(
    run: Path, formats: Sequence[FormatName], *, examples: int = 8, data_dir: Path | None = None
) -> Exports:
    """Export a run in several formats, each with a certificate of its own, and say of each what came of it.

    What was exported before is replaced once the new one has held. A format that fails does not keep the others.

    Args:
        run: one that is done; a cross-validation or an ensemble becomes one graph, which averages.
        formats: in order.
        examples: of validation that go along with their answers.
        data_dir: where the run's data are now, if they have moved.

    Raises:
        InputError: the run cannot be exported, whatever the format.
    """
    source = source_of(run, data_dir)
    exports = Exports({}, {})
    for name in dict.fromkeys(formats):
        try:
            exports.folders[name] = _export(source, name, examples)
        except InputError as error:
            exports.failures[name] = error
            console.line("NOT MADE", str(error))
    return exports


def source_of(run: Path, data_dir: Path | None = None) -> Source:
    """Return a run as the formats take it; errors as for `export_formats`."""
    try:
        return PreparedSource(take_apart(run, data_dir))
    except OwnParts:
        return PlainSource(run, data_dir)


def _export(source: Source, name: FormatName, examples: int) -> Path:
    folder = source.run / "export" / name
    building = folder.with_name(f".{name}-{os.getpid()}")
    shutil.rmtree(building, ignore_errors=True)
    form = format_of(name)
    try:
        building.mkdir(parents=True)
        certificate = _build(source, name, form, building, examples)
        replace(building, folder)
    except OSError as error:
        what = f"{error.filename or folder}: {error.strerror or error}"
        raise InputError(f"--format {name}: {what}. The export is not kept.") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
        with contextlib.suppress(OSError):  # there are others
            folder.parent.rmdir()
    show(certificate, form.FILE, folder)
    log(source)
    return folder


def _build(source: Source, name: FormatName, form: Format, folder: Path, examples: int) -> dict[str, Any]:
    """Write all files of an export to a folder, check it, and return its certificate."""
    model = form.write(source.graph, source.traced, folder)
    worked = source.write_beside(folder, examples)
    atomic_write(folder / "requirements.txt", requirements([*source.needs, *form.NEEDS]))
    atomic_write(folder / "LICENCES.md", licences(source.run))
    certificate = new_certificate(source.run, name, folder)
    certificate |= {
        "model": model,
        "preparation": source.prepares,
        "worked_examples": worked,
        "parity": {},
        "speed": {},
    }
    certificate["not_covered"] += [*source.not_covered, *form.NOT_COVERED]
    write_json(folder / exported.CERTIFICATE, certificate)
    if why := form.CANNOT_RUN:
        certificate["not_checked"] = why
        certificate["not_covered"].insert(0, f"parity and speed, which have not been checked: {why}")
    else:
        certificate["parity"] = source.parity(_running(form, folder, name), folder, name)
        certificate["speed"] = source.speed(_running(form, folder, name, threads=1))
    write_json(folder / exported.CERTIFICATE, certificate)
    return certificate


def log(source: Source) -> None:
    """Show the run's exports in its TensorBoard, if it has one."""
    if not list(source.run.glob("events.out.tfevents.*")):
        return
    tensorboard = TensorBoard(source.run)
    rows = [[one.format, size(one.bytes), str(one)] for one in exports_of(source.run)]
    tensorboard.log_table("exports", [["format", "size", "certificate"], *rows])
    tensorboard.finalize("success")  # its thread would stay


def _running(form: Format, folder: Path, name: FormatName, threads: int = 0) -> Answer:
    """Return what answers by an export; what its engine raises becomes an InputError."""

    def said(error: Exception, what: str) -> InputError:
        why = str(error).strip()[:300] or "no reason given"
        return InputError(f"--format {name}: the export {what}, and is not kept: {type(error).__name__}: {why}")

    try:
        answer = form.answerer(folder, threads)
    except InputError:
        raise
    except Exception as error:  # engines raise kinds of their own
        raise said(error, "cannot be loaded") from error

    def guarded(arrays: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        try:
            return answer(arrays)
        except Exception as error:
            shapes = ", ".join(f"{key} {list(values.shape)}" for key, values in arrays[0].items())
            raise said(error, f"fails for {shapes}") from error

    return guarded


def replace(made: Path, folder: Path) -> None:
    """Put a finished folder in the place of another; a reader sees one of the two, or for a moment none."""
    old = made.with_name(f"{made.name}-old")
    if folder.exists():
        folder.rename(old)
    try:
        made.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def show_commands(folder: Path) -> None:
    """Print what comes after an export as ONNX."""
    if exported.read_json(folder / exported.CERTIFICATE)["preparation"]:
        quoted = shlex.quote(str(folder))
        console.command("next", f"{installed('python')} scripts/predict.py {quoted} FILE_OR_FOLDER")
        console.command("", f"{installed('python')} scripts/serve.py {quoted}")
