"""Features of a frozen backbone: computed once, cached on the disk, trained on as tensors."""

from __future__ import annotations

import functools
import hashlib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from src.datamodules import DataModule
from src.resources.cache import cache_dir, once
from src.tasks import Task

CachedFeatures = dict[str, dict[str, Tensor]]
"""Split -> 'features' [examples, num_features] float32 and 'target' [examples]."""


def cache_features(
    task: Task, datamodule: DataModule, trainer: Trainer, splits: Sequence[str] = ("train", "val")
) -> CachedFeatures:
    """Run the frozen part of a task over the splits, unaugmented, unless the cache has the result already."""
    key = _key(task, datamodule, trainer)
    cached: CachedFeatures = {}
    task.to(trainer.strategy.root_device).eval()
    for split in splits:
        cached[split] = {
            "features": _features(task, datamodule, trainer, split, key),
            "target": datamodule.targets(split),
        }
    task.train()
    return cached


def _features(task: Task, datamodule: DataModule, trainer: Trainer, split: str, key: str) -> Tensor:
    """Return the features of a split, float32 [examples, num_features], from the cache or computed."""

    names = [str(name) for name in datamodule.ids(split)]

    def read(path: Path) -> Tensor | None:
        return held(_read(path, names))

    def held(found: Tensor | None) -> Tensor | None:
        holds = found is not None and _holds(found, *next(_compute(task, datamodule, trainer, split)))
        return found if holds else None

    @functools.cache
    def computed() -> Tensor:
        if (elsewhere := held(_gather(path.parent, key, datamodule, names))) is not None:
            return elsewhere
        index, found = (torch.cat(parts) for parts in zip(*_compute(task, datamodule, trainer, split), strict=True))
        return found[index.argsort()]

    def fill(part: Path) -> Tensor:
        with open(part, "wb") as file:
            np.savez(file, features=computed().numpy(), ids=np.array(names))  # with a checksum, unlike .npy
        return computed()

    ids = hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
    path = cache_dir() / "features" / f"{key}-{ids}.npz"
    return once(path, read, fill, fallback=computed, so="the next run computes these features again")


def _compute(task: Task, datamodule: DataModule, trainer: Trainer, split: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield index and features of each batch, with the data module's own hooks on the way."""
    for batch in datamodule.loader(split):
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            moved = datamodule.transfer_batch_to_device(batch, task.device, 0)
            features = task.features(datamodule.on_after_batch_transfer(moved, 0)).float().cpu()
            yield batch["index"], features


def _holds(cached: Tensor, index: Tensor, first: Tensor) -> bool:
    """Return whether cached features agree with today's first batch: code that no key can name may have changed."""
    return cached.shape[1:] == first.shape[1:] and torch.allclose(cached[index], first, rtol=0.05, atol=0.05)


def _gather(folder: Path, key: str, datamodule: DataModule, names: Sequence[str]) -> Tensor | None:
    """Return features of examples that were computed for other splits of the same data, such as folds; None where one
    is missing, or where an id does not tell which example it is."""
    everything = [str(name) for split in datamodule.sizes() for name in datamodule.ids(split)]
    if len(set(everything)) < len(everything):
        return None
    known: dict[str, np.ndarray] = {}
    for path in sorted(folder.glob(f"{key}-*.npz")):
        known |= dict(zip(*_load(path), strict=True))
    return torch.from_numpy(np.stack([known[name] for name in names])) if known.keys() >= {*names} else None


def _read(path: Path, names: Sequence[str]) -> Tensor | None:
    """Return the cached features of examples; None where there are none or the file is damaged."""
    there, found = _load(path)
    return torch.from_numpy(found) if there == [*names] else None


def _load(path: Path) -> tuple[list[str], np.ndarray]:
    """Return ids and features of a file of the cache; none where there is no file or it is damaged."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            names, found = arrays["ids"].tolist(), arrays["features"]
    except (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile):
        return [], np.empty(0)
    return (names, found) if len(names) == len(found) else ([], np.empty(0))


def _key(task: Task, datamodule: DataModule, trainer: Trainer) -> str:
    """Name the result by all that it depends on: the weights, the data, how they are prepared, and the arithmetic."""
    digest = hashlib.sha256()
    state: Mapping[str, Tensor] = task.model.state_dict()
    for name, value in state.items():
        if not name.startswith("head."):
            digest.update(name.encode())
            digest.update(value.cpu().contiguous().numpy().tobytes())
    spec = replace(datamodule.spec, class_counts=())  # they are of the split, and nothing of a feature
    for part in (datamodule.fingerprint, datamodule.fitted, spec, trainer.precision):
        digest.update(repr(part).encode())
    return digest.hexdigest()[:24]
