"""The front matter of a card: Hugging Face's model card metadata.

See https://github.com/huggingface/hub-docs/blob/main/modelcard.md.
"""

from __future__ import annotations

import math
import re

from huggingface_hub import EvalResult, ModelCardData

from src.configs.spec import TargetKind
from src.deploy.licences import licence_of
from src.explain.card.reported import Kind, Reported
from src.resources.hub import PACKAGE, PACKAGED_ENCODER

PIPELINES: dict[tuple[Kind, TargetKind], str] = {
    ("image", "single_label"): "image-classification",
    ("image", "multi_label"): "image-classification",
    ("text", "single_label"): "text-classification",
    ("text", "multi_label"): "text-classification",
    ("table", "single_label"): "tabular-classification",
    ("table", "multi_label"): "tabular-classification",
    ("table", "regression"): "tabular-regression",
}
"""The Hub has no tag for a number of an image or a text."""
METRICS = {
    "acc": "accuracy",
    "balanced_acc": "balanced_accuracy",
    "auroc": "roc_auc",
    "r2": "r_squared",
    "ece": "expected_calibration_error",
    "map": "mean_average_precision",
    "spearman": "spearmanr",
}
"""Our names of metrics -> the Hub's, where they differ."""
LICENCES = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0"),
    *("cc-by-nc-sa-4.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "mpl-2.0", "openrail", "unknown"),
)
"""The Hub's names of licences, those that first weights come with."""
NOT_SAID = "unknown"


def task_of(reported: Reported) -> str:
    """Return the task as the Hub calls it, or as it would."""
    kind = reported.spec.target.kind
    return PIPELINES.get((reported.input, kind), f"{reported.input}-{kind.replace('_', '-')}")


def metadata(reported: Reported) -> ModelCardData:
    """Return the front matter."""
    record, data = reported.record, reported.data
    source = reported.first["weights"]["source"]
    known = licence_of(source).partition(", as ")[0].lower() or NOT_SAID
    hub = data["source"].removeprefix("Hub ") if data["source"].startswith("Hub ") else ""
    tags = ["leyden", "pytorch", "lightning", task_of(reported)]
    metrics = {name: value for name, value in record["metrics"].items() if math.isfinite(value)}
    scored = [name for name in metrics if name.startswith(("val/", "test/")) and not name.endswith("/loss")]
    return ModelCardData(
        license=known if known in LICENCES else "other",
        license_name=None if known in LICENCES else known,
        library_name="leyden",
        pipeline_tag=PIPELINES.get((reported.input, reported.spec.target.kind)),
        tags=[*tags, "stand-in-data"] if data["stand_in"] else tags,
        base_model=base_of(source),
        datasets=[hub] if hub else None,
        metrics=list(dict.fromkeys(METRICS.get(_bare(name), _bare(name)) for name in scored)) or None,
        model_name=reported.name,
        eval_results=[_result(reported, name, metrics[name], hub) for name in scored] or None,
    )


def base_of(source: str) -> str | None:
    """Return the model on the Hub that first weights are of; None where it is not known.

    Args:
        source: of the weights, as the record has it.
    """
    if source.startswith(("Hub download: ", "Hub's cache: ")):
        return source.partition(": ")[2]
    if source.startswith(f"package {PACKAGE} "):
        return PACKAGED_ENCODER
    if source.startswith("timm "):
        import timm

        config = timm.get_pretrained_cfg(source.rpartition("/")[2])
        return (config.hf_hub_id if config else None) or None
    return None


def _result(reported: Reported, name: str, value: float, hub: str) -> EvalResult:
    split, data = name.partition("/")[0], reported.data
    note = " (STAND-IN)" if data["stand_in"] else ""
    score, folds = reported.known.get(name), reported.record.get("folds")
    interval = [round(end, 6) for end in score.interval] if score and score.interval else None
    return EvalResult(
        task_type=task_of(reported),
        dataset_type=hub or re.sub(r"[^a-z0-9]+", "-", data["source"].lower()).strip("-") or "unknown",
        dataset_name=f"{data['source']}{note}",
        dataset_split=f"{folds} folds" if folds else {"val": "validation"}.get(split, split),
        dataset_args={"fingerprint": data["fingerprint"]},
        metric_type=METRICS.get(_bare(name), _bare(name)),
        metric_name=name,
        metric_value=round(float(value), 6),
        metric_args={"interval_95": interval} if interval else None,
    )


def _bare(name: str) -> str:
    return name.partition("/")[2]
