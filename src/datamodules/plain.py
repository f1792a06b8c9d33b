"""Any map-style data set, or a pair of tensors, as it is."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.data import ConcatDataset, Dataset, TensorDataset, default_collate

from src.configs.errors import InputError
from src.configs.spec import DataSpec, Target, TargetKind
from src.datamodules.base import DataModule, LoadedSplits
from src.datamodules.sampling.batches import Batches
from src.datamodules.tensors import Slices

FIRST = 32
"""Examples of each split from which the fingerprint is made."""


class Plain(DataModule):
    """A data set of one's own: any `torch.utils.data.Dataset` with a length, or inputs and targets as two tensors.

    An example is (input, target), or a dict with 'target' whose 'input', or else all the rest, is the input. torch's
    own `default_collate` makes batches of them, and `tasks.inputs.PlainInput` takes them. What a data set draws at
    random is seeded from (seed, epoch, example), so that a resumed run draws what it would have drawn.

    Args:
        train, val, test: the splits; test may be missing.
        classes: names of the classes or labels, or how many there are. Tensors tell by themselves.
        target_kind: what the targets are. By default whole numbers are classes, other numbers are to be predicted, and
            vectors of 0s and 1s are several labels.
        batch_size, num_workers, seed: as for every data module.
    """

    def __init__(
        self,
        train: Dataset[Any] | tuple[Tensor, Tensor],
        val: Dataset[Any] | tuple[Tensor, Tensor],
        test: Dataset[Any] | tuple[Tensor, Tensor] | None = None,
        *,
        classes: Sequence[str] | int = (),
        target_kind: TargetKind | None = None,
        batch_size: int = 32,
        num_workers: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        given = {"train": train, "val": val} | ({} if test is None else {"test": test})
        self._datasets: dict[str, Any] = {
            split: TensorDataset(*source) if isinstance(source, tuple) else source for split, source in given.items()
        }
        self._classes: Sequence[str] | int = classes
        self._kind: TargetKind | None = target_kind
        self._inputs: Tensor | None = None
        self._targets: Tensor | None = None
        """Of all splits, one after the other; None where a split is no pair of tensors."""

    def sources(self) -> dict[str, Callable[[], LoadedSplits[np.ndarray] | None]]:
        return {"given": self.from_arguments}

    def from_arguments(self) -> LoadedSplits[np.ndarray]:
        """Return the splits as they were given, as positions in all of them one after the other."""
        sizes = {split: len(dataset) for split, dataset in self._datasets.items()}
        if empty := [split for split, size in sizes.items() if not size]:
            raise InputError(f"{type(self).__name__}: {empty[0]} has no examples.")
        self._names = [str(number) for size in sizes.values() for number in range(size)]
        ends = np.cumsum([0, *sizes.values()])
        rows = {split: np.arange(*span) for split, span in zip(sizes, pairwise(ends), strict=True)}
        kinds = dict.fromkeys(type(dataset).__name__ for dataset in self._datasets.values())
        return LoadedSplits(f"{type(self).__name__} around {', '.join(kinds)}", "as given", rows)

    def setup(self, stage: str) -> None:
        if hasattr(self, "loaded"):
            return
        datasets = list(self._datasets.values())
        if all(isinstance(dataset, TensorDataset) and len(dataset.tensors) == 2 for dataset in datasets):
            self._inputs, targets = (torch.cat(parts) for parts in zip(*(d.tensors for d in datasets), strict=True))
            self._targets = without_last(targets)
        self._all = ConcatDataset(datasets)
        self.loaded = self.find()
        first = {split: self._examples(split)[list(range(min(FIRST, size)))] for split, size in self.sizes().items()}
        self.spec = self._spec(first["train"])
        for split, batch in first.items():
            self.require_targets(batch["target"] if self._targets is None else self.targets(split), split)
        self.fingerprint = self._fingerprint(first)

    def _spec(self, first: Mapping[str, Any]) -> DataSpec:
        """Return the spec: the kind of target and the classes from the first training batch, or from all targets."""
        inputs, target = first["input"], first["target"] if self._targets is None else self._targets
        kind = kind_of(target) if self._kind is None else self._kind
        classes = () if kind == "regression" else self._classes
        if kind != "regression" and not classes:
            if self._targets is None:
                raise InputError(
                    f"{type(self).__name__}: say which classes there are: classes=10 or classes=('cat', 'dog')."
                )
            classes = target.shape[1] if target.ndim == 2 else int(target.max()) + 1
        self.spec = DataSpec(
            classes=tuple(map(str, range(classes))) if isinstance(classes, int) else tuple(classes),
            input_shape=tuple(inputs.shape[1:]) if isinstance(inputs, Tensor) else (),
            target=self._target(kind),
        )
        known = self._targets is not None and kind == "single_label"
        return replace(self.spec, class_counts=self.train_counts(self.spec.num_classes) if known else ())

    def _target(self, kind: TargetKind) -> Target:
        """Return the target, with a number's scale where all targets are there to be looked at."""
        if kind != "regression" or self._targets is None:
            return Target(kind=kind, name="target")
        train = self.targets("train").double()
        return Target(kind=kind, name="target", mean=float(train.mean()), std=float(train.std(correction=0)) or 1.0)

    def require_targets(self, target: Any, split: str) -> None:
        """Raise an InputError where a batch's targets are not what the spec says."""
        kind, where = self.spec.target.kind, f"{type(self).__name__}, {split}"
        dimensions = 2 if kind == "multi_label" else 1
        if not isinstance(target, Tensor) or target.ndim != dimensions:
            shape = f"of shape {list(target.shape)}" if isinstance(target, Tensor) else f"a {type(target).__name__}"
            raise InputError(
                f"{where}: a batch's targets are {shape}, but {kind} needs {dimensions} dimensions. Another "
                "kind is chosen by target_kind."
            )
        if kind == "multi_label" and target.shape[1] != self.spec.num_classes:
            raise InputError(f"{where}: {target.shape[1]} labels an example, but classes has {self.spec.num_classes}.")
        if kind == "single_label" and len(odd := target[(target < 0) | (target >= self.spec.num_classes)]):
            raise InputError(
                f"{where}: a target is {int(odd[0])}, but the {self.spec.num_classes} classes count from 0."
            )

    def _fingerprint(self, first: Mapping[str, Mapping[str, Any]]) -> str:
        """Return a hash of the sizes and of each split's first examples."""
        digest = hashlib.sha256(repr(self.sizes()).encode())
        for part in tree_leaves(list(first.values())):
            digest.update(part.contiguous().numpy().tobytes() if isinstance(part, Tensor) else repr(part).encode())
        return digest.hexdigest()[:16]

    # --------------------------------------------------------------------------------------------------- what is there
    def _examples(self, split: str) -> Examples:
        return Examples(self._all, self.loaded.samples[split], seed=self.seed)

    def dataset(self, split: str, *, train: bool) -> Dataset[dict[str, Any]]:
        if self._inputs is None or self._targets is None:
            return self._examples(split)
        rows = torch.from_numpy(self.loaded.samples[split])
        return Slices({"input": self._inputs[rows], "target": self._targets[rows]})

    def batches(self, split: str, *, train: bool, rank: int = 0, world_size: int = 1) -> Batches:
        if train and self.balanced:
            return super().batches(split, train=True, rank=rank, world_size=world_size)
        size = len(self.loaded.samples[split])
        return Batches(size, self.batch_size, train=train, seed=self.seed, rank=rank, world_size=world_size)

    def sizes(self) -> dict[str, int]:
        return {split: len(rows) for split, rows in self.loaded.samples.items()}

    def class_counts(self) -> dict[str, dict[str, int]]:
        return {} if self._targets is None else super().class_counts()

    def ids(self, split: str) -> Sequence[str]:
        return self.names_of(self.loaded.samples[split], self.loaded)

    def targets(self, split: str) -> Tensor:
        if self._targets is None:
            raise InputError(
                f"{type(self).__name__}: the targets of a data set are known only when it is read. Give tensors."
            )
        return self._targets[torch.from_numpy(self.loaded.samples[split])]

    def labels(self, samples: np.ndarray) -> list[str] | None:
        """Return the classes of some examples; None where they are not known, or are no classes."""
        if self._targets is None or kind_of(self._targets) != "single_label":
            return None
        return [str(number) for number in self._targets[torch.from_numpy(samples)].tolist()]

    def names_of(self, samples: np.ndarray, found: LoadedSplits[np.ndarray]) -> list[str]:
        return [self._names[row] for row in samples]

    def subset(self, samples: np.ndarray, positions: Sequence[int] | np.ndarray) -> np.ndarray:
        return samples[positions]


class Examples(Dataset[dict[str, Any]]):
    """Some examples of a data set: a list of keys gives a batch with 'input', 'target' and 'index'.

    Args:
        dataset: yields (input, target), or a dict with 'target'.
        rows: positions in it, int64 [examples].
        seed: of what the data set draws.

    Raises:
        InputError: when it yields anything else.
    """

    def __init__(self, dataset: Dataset[Any], rows: np.ndarray, *, seed: int) -> None:
        self.dataset, self.rows, self.seed = dataset, rows, seed

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, keys: list[int]) -> dict[str, Any]:
        with isolate_rng():
            batch = default_collate([self._example(key) for key in keys])
        batch["target"] = without_last(batch["target"])
        return batch | {"index": torch.tensor(keys) % len(self.rows)}

    def _example(self, key: int) -> dict[str, Any]:
        number = int(np.random.SeedSequence([self.seed, key]).generate_state(1)[0])
        random.seed(number)
        np.random.seed(number)
        torch.default_generator.manual_seed(number)
        example = self.dataset[int(self.rows[key % len(self.rows)])]
        if isinstance(example, Mapping) and "target" in example:
            rest = {name: value for name, value in example.items() if name != "target"}
            return {"input": rest.get("input", rest), "target": example["target"]}
        if isinstance(example, tuple | list) and len(example) == 2:
            return {"input": example[0], "target": example[1]}
        count = f" of {len(example)}" if isinstance(example, Sized) else ""
        raise InputError(
            f"an example of the data set is a {type(example).__name__}{count}. It has to be (input, target), or a dict "
            "with 'target'."
        )


def without_last(target: Any) -> Any:
    """Return targets [batch, 1] as [batch], others as they are."""
    return target[:, 0] if isinstance(target, Tensor) and target.ndim == 2 and target.shape[1] == 1 else target


def kind_of(target: Any) -> TargetKind:
    """Return what targets are: whole numbers are classes, vectors are several labels, the rest are numbers."""
    if isinstance(target, Tensor) and target.ndim == 2:
        return "multi_label"
    return "regression" if isinstance(target, Tensor) and target.is_floating_point() else "single_label"
