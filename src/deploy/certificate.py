"""The certificate of an export: what it was made of, what was checked, how fast it was, and what was not covered."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from src.deploy.processor import processor, shown
from src.inference.exported import CERTIFICATE
from src.resources.files import digest_of
from src.runs import records
from src.runs.exports import weights_of
from src.runs.provenance import versions
from src.terminal import console

LIBRARIES = ("onnx", "onnxscript", "onnxruntime", "openvino", "executorch", "coremltools", "pandas", "pyarrow")
PREPARES = ("numpy", "pandas", "pyarrow", "pillow", "tokenizers")
"""What the preparation of raw inputs imports."""
NO_PREPARATION = "preparation: a module or data module of one's own has none that is known here"
NOT_COVERED = (
    "accuracy: that is in the run's record, on its own data",
    "other processors: they round otherwise, in the last digits",
    "inputs unlike those of validation: what the network makes of them is not known",
)


def new_certificate(run: Path, form: str, folder: Path) -> dict[str, Any]:
    """Return the first part of a certificate: what was exported, with what, and the hash of each file in the folder.

    Args:
        run: that is exported.
        form: the format.
        folder: with all files.
    """
    record = records.load(run)
    libraries = {name: version for name in LIBRARIES if (version := version_of(name))}
    return {
        "format": form,
        "made": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "run": {
            "path": str(run),
            "experiment": record["experiment"],
            "fields": record["fields"],
            "metrics": record["metrics"],
            "data": {name: record["data"][name] for name in ("source", "fingerprint", "stand_in")},
            "git": record["git"],
            "record_sha256": digest_of(run / "run.json"),
            "weights_sha256": weights_of(run),
        },
        "versions": versions() | libraries,
        "processor": processor(),
        "files": {
            str(path.relative_to(folder)): digest_of(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != CERTIFICATE
        },
        "not_covered": list(NOT_COVERED),
    }


def version_of(name: str) -> str:
    """Return the installed version of a distribution, '' where there is none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def requirements(names: Sequence[str]) -> str:
    """Return what the export was checked with, as pip reads it.

    Args:
        names: of the distributions that it takes; those that are not installed are left out.
    """
    pinned = [f"{name}=={version}" for name in names if (version := version_of(name))]
    return "\n".join(["# what this export was checked with; Leyden itself: pip install --no-deps", *pinned]) + "\n"


def show(certificate: Mapping[str, Any], file: str, folder: Path) -> None:
    """Print a certificate's figures.

    Args:
        certificate: of the export.
        file: name of the model.
        folder: of the export.
    """
    model = certificate["model"]
    opset = f"opset {model['opset']}, " if "opset" in model else ""
    preparation = "preparation, " if certificate["preparation"] else ""
    console.line(
        "exported",
        f"{folder}: {file} {size(model['bytes'])} ({opset}{model['takes']}), {preparation}"
        f"{certificate['worked_examples']} worked examples",
    )
    if certificate["parity"]:
        _show_parity(certificate["parity"], classes="label" in model["outputs"] or "labels" in model["outputs"])
    else:
        console.line("NOTE", f"{certificate['format']}: parity and speed are not checked: {certificate['not_checked']}")
    if not certificate["preparation"]:
        console.line("NOTE", f"{NO_PREPARATION}: predict.py and serve.py do not take this export")
    if speed := certificate["speed"]:
        console.line(
            "speed",
            f"{speed['export_ms']:.3g} ms an example, PyTorch {speed['pytorch_ms']:.3g}: {speed['ratio']:.1f} times "
            f"({speed['threads']} thread, {shown(certificate['processor'])})",
        )


def size(count: int) -> str:
    """Return a number of bytes in words."""
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def _show_parity(checked: Mapping[str, Any], *, classes: bool) -> None:
    labels = f"{checked['labels_equal']} labels equal, " if classes else ""
    what = "of a probability" if classes else "as a share of the number"
    console.line(
        "parity",
        f"{checked['examples']} {checked['split']} examples, from {checked['from']}: {labels}largest difference {what} "
        f"{checked['largest']:.1e}",
    )
    lengths = checked["lengths"]
    of = f", texts of {lengths[0]} to {lengths[-1]} tokens" if lengths else ""
    console.line("", f"batches of {', '.join(map(str, checked['sizes']))}{of}")
    if saved := checked["saved_predictions"]:
        same = f"{saved['labels_equal']} labels equal, " if "labels_equal" in saved else ""
        console.line("", f"the run itself, in {saved['precision']}: {same}largest difference {saved['largest']:.1e}")
