"""The certificate of an export: what it was made of, what was checked, how fast it was, and what was not covered."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from src.deploy.parts import Parts
from src.deploy.processor import processor, shown
from src.inference.exported import CERTIFICATE, digest_of
from src.runs.provenance import versions
from src.terminal import console

LIBRARIES = ("onnx", "onnxscript", "onnxruntime", "openvino", "executorch", "coremltools", "pandas", "pyarrow")
PREDICTS = (
    "numpy", "onnxruntime", "pandas", "pyarrow", "pillow", "tokenizers", "scikit-learn",
    "tyro", "rich", "filelock", "lazy_loader", "typing_extensions",
    "starlette", "uvicorn", "python-multipart", "prometheus-client",
)  # fmt: skip
"""What prediction and the server import."""
NOT_COVERED = (
    "accuracy: that is in the run's record, on its own data",
    "other processors: they round otherwise, in the last digits",
    "inputs unlike those of validation: what the network makes of them is not known",
)


def certificate(parts: Parts, form: str, folder: Path) -> dict[str, Any]:
    """Return the first part of a certificate: what was exported, with what, and the hash of each file in the folder."""
    record, run = parts.record, parts.run
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
            "weights_sha256": [digest_of(member / "checkpoints" / "best.ckpt") for member in parts.members],
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


def requirements() -> str:
    """Return what the export was checked with, as pip reads it: all that prediction and the server import."""
    found = [f"{name}=={version}" for name in PREDICTS if (version := version_of(name))]
    return "\n".join(["# what this export was checked with; Leyden itself: pip install --no-deps", *found]) + "\n"


def licences(parts: Parts) -> str:
    """Return what is known of the licences of the weights."""
    source = parts.record["weights"]["source"]
    known = getattr(parts.graph.tasks[0].model, "weights_licence", "")
    said = f"Licence of these weights: {known}." if known else "Their licence is not known here: ask their source."
    if source.startswith("none"):
        said = "No weights of others went in."
    return f"# Licences\n\nFirst weights: {source}. {said}\n\nData: {parts.record['data']['source']}.\n"


def show(found: Mapping[str, Any], folder: Path) -> None:
    """Print a certificate's figures."""
    model, checked, speed = found["model"], found["parity"], found["speed"]
    size = f"{model['bytes'] / 1e6:.1f} MB (opset {model['opset']}, any batch)"
    console.line("exported", f"{folder}: model.onnx {size}, preparation, {found['worked_examples']} worked examples")
    labels = f"{checked['labels_equal']} labels equal, " if "prob" in model["outputs"] else ""
    what = "of a probability" if labels else "as a share of the number"
    console.line(
        "parity",
        f"{checked['examples']} {checked['split']} examples, from raw input to answer: {labels}largest difference "
        f"{what} {checked['largest']:.1e}",
    )
    lengths = checked["lengths"]
    of = f", texts of {lengths[0]} to {lengths[-1]} tokens" if lengths else ""
    console.line("", f"batches of {', '.join(map(str, checked['sizes']))}{of}")
    if saved := checked["saved_predictions"]:
        same = f"{saved['labels_equal']} labels equal, " if "labels_equal" in saved else ""
        console.line("", f"the run itself, in {saved['precision']}: {same}largest difference {saved['largest']:.1e}")
    console.line(
        "speed",
        f"{speed['export_ms']:.3g} ms an example, PyTorch {speed['pytorch_ms']:.3g}: {speed['ratio']:.1f} times "
        f"({speed['threads']} thread, {shown(speed['processor'])})",
    )
