"""What is known, without the network, of the licences of a run's first weights."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import metadata_load

from src.resources.hub import model_card
from src.runs import records


def licences(run: Path) -> str:
    """Return what `LICENCES.md` of an export says: where first weights and data came from, and the weights' licence."""
    record = records.load(run)
    source = record["weights"]["source"]
    if source.startswith("none"):
        said = "No weights of others went in."
    elif licence := licence_of(source):
        said = f"Their licence: {licence}."
    else:
        said = "Their licence is not known here: ask their source."
    return f"# Licences\n\nFirst weights: {source}. {said}\n\nData: {record['data']['source']}.\n"


def licence_of(source: str) -> str:
    """Return the licence of weights and who says so; '' where this machine does not know it.

    Args:
        source: of the weights, as the record has it.
    """
    if source.startswith("timm "):
        import timm

        config = timm.get_pretrained_cfg(source.rpartition("/")[2])
        return f"{config.license}, as timm says" if config and config.license else ""
    card = model_card(source)
    try:
        fields = metadata_load(card) if card else None
    except Exception:  # YAML has many kinds of errors
        return ""
    licence = (fields or {}).get("license_name") or (fields or {}).get("license")
    return f"{licence}, as their model card says" if licence else ""
