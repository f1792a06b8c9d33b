"""A run of the user's own module or data module: `forward` alone is exported, for tensors as in a validation batch."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten
from typing_extensions import override

from src.configs.errors import InputError
from src.datamodules import DataModule
from src.deploy import parity
from src.deploy.certificate import NO_PREPARATION
from src.deploy.graph import Exportable
from src.deploy.parts import MAX_EXAMPLES, SPLIT, require_done, tensors
from src.deploy.prepared import traced_keys
from src.deploy.source import Source
from src.deploy.speed import in_turns
from src.deploy.worked import FOLDER
from src.experiment import Experiment
from src.inference.own_data import moved_to, require_same_data
from src.inference.predictor import load_module
from src.runs import records, state
from src.tasks import Task
from src.terminal.progress import counted
from src.training.build import make_datamodule, set_up
from src.training.plain import has, look_at

ARRAYS = "examples.npz"
Arguments = tuple[Any, ...]
"""Of forward: tensors, or tuples, lists and dicts of them."""


class Forward(Exportable):
    """The forward of a module, with the tensors in its arguments one after the other.

    Of a `Task`, the argument is a batch's 'input', and the outputs are its predictions.

    Args:
        module: with its weights.
        arguments: of several batches, which tell what varies from one to another.

    Raises:
        InputError: an argument is no tensor and holds none.
    """

    def __init__(self, module: LightningModule, arguments: Sequence[Arguments]) -> None:
        super().__init__()
        self.module, self.keywords = module, _keywords(module)
        leaves, self.nesting = tree_flatten(arguments[0])
        for leaf in leaves:
            if not isinstance(leaf, Tensor) or not leaf.ndim:
                raise InputError(
                    f"{type(module).__name__}.forward gets a {type(leaf).__name__} from a validation batch, and an "
                    "export takes tensors [batch, ...] alone. Set self.example_input_array, which tells how many of "
                    "the batch's parts forward takes."
                )
        shapes = [[tuple(leaf.shape) for leaf in tree_flatten(one)[0]] for one in arguments]
        self.names = self.input_names = _names(module, arguments[0])
        self.axes = [{0: "batch"} | _varying(name, shapes, at) for at, name in enumerate(self.names)]
        self.longest = {
            name: max(shape[at][axis] for shape in shapes)
            for at, axes in enumerate(self.axes)
            for axis, name in axes.items()
            if axis
        }
        self.requires_grad_(False).float().eval()

    @override
    def answers(self, batches: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        arguments: Arguments = tree_unflatten([batches[0][name] for name in self.names], self.nesting)
        if isinstance(self.module, Task):
            return self.module.objective.predictions(self.module({"input": arguments[0]}).float())
        named = dict(zip(self.keywords, arguments, strict=True)) if self.keywords else {}
        outputs = self.module(**named) if named else self.module(*arguments)
        if isinstance(outputs, Mapping):
            return dict(outputs)
        return {f"output_{at}" if at > 1 else "output": one for at, one in enumerate(tree_flatten(outputs)[0], 1)}

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs for tensors [batch, ...], in the order of `input_names`."""
        return tuple(self.answers([dict(zip(self.names, tensors, strict=True))]).values())


class PlainSource(Source):
    """A run of a plain module, with batches of its validation split.

    Raises:
        InputError: the run is not done, has children, its data are others by now, or there is nothing to export.
    """

    prepares = False
    needs = ("numpy",)
    not_covered = (f"{NO_PREPARATION}; the model takes tensors as a validation batch has them",)

    def __init__(self, run: Path, data_dir: Path | None = None) -> None:
        record = records.load(run)
        require_done(run, record)
        if children := state.children(run):
            raise InputError(
                f"{run}: modules of your own are exported one by one. Name one of its children: {children[0]}"
            )
        experiment, module = load_module(run)
        if not has(module, "forward"):
            raise InputError(
                f"{run}: {type(module).__name__} has no forward(), which is what is exported. Write one that returns "
                "what you want of a batch; the weights stay as they are."
            )
        moved = moved_to(experiment, data_dir)
        count = _count(module)
        self.run = run
        self.batches = [_floats(_arguments(batch, count, module)) for batch in _validation(moved, run, record)]
        self.graph = Forward(module, self.batches)
        rows = traced_keys(len(self._arrays(self.batches[0])[self.graph.names[0]]))
        self.traced = [tensors({name: values[rows] for name, values in self._arrays(self.batches[0]).items()})]
        try:
            with torch.no_grad():
                outputs = self.graph.answers(self.traced)
        except Exception as error:  # whatever the user's code raises
            raise InputError(
                f"{run}: {type(module).__name__}.forward does not take the first part of a validation batch "
                f"({type(error).__name__}: {str(error)[:200]}). Set self.example_input_array, which tells how "
                "many parts it takes."
            ) from error
        if other := [value for value in outputs.values() if not isinstance(value, Tensor)]:
            raise InputError(
                f"{run}: {type(module).__name__}.forward returns a {type(other[0]).__name__}, and an export tensors "
                "alone. Return a tensor, or a tuple or dict of them."
            )

    def _arrays(self, arguments: Arguments) -> dict[str, np.ndarray]:
        return {name: leaf.numpy() for name, leaf in zip(self.graph.names, tree_flatten(arguments)[0], strict=True)}

    def _expected(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            return {name: answer.numpy() for name, answer in self.graph.answers([tensors(arrays)]).items()}

    @override
    def write_beside(self, folder: Path, examples: int) -> int:
        arrays = {name: values[:examples] for name, values in self._arrays(self.batches[0]).items()}
        (folder / FOLDER).mkdir()
        np.savez(folder / FOLDER / ARRAYS, **arrays, **(self._expected(arrays) if examples else {}))  # pyright: ignore[reportArgumentType]
        return min(len(values) for values in arrays.values())

    @override
    def parity(self, answer: parity.Answer, folder: Path, name: str) -> dict[str, Any]:
        largest, count, sizes = 0.0, 0, set[int]()
        for number, arguments in enumerate(counted("parity", self.batches)):
            arrays = self._arrays(arguments)
            whole = len(arrays[self.graph.names[0]])
            small = [size for size in parity.SIZES[:-1] if size < whole] if number < parity.FEW else []
            for size in (*small, whole):
                some = {key: values[:size] for key, values in arrays.items()}
                wanted = self._expected(some)
                largest = float(np.maximum(largest, distance(answer([some]), wanted)))  # unlike max, it keeps NaN
                sizes.add(size)
            count += whole
        if not largest <= parity.BOUND:
            raise InputError(
                f"--format {name}: the export does not answer as the run does, and is not kept: the largest difference "
                f"is {largest:.2g}, above {parity.BOUND:g} (batches of {', '.join(map(str, sorted(sizes)))})."
            )
        return {
            "examples": count,
            "largest": largest,
            "sizes": sorted(sizes),
            "lengths": [],
            "split": SPLIT,
            "from": "tensor to output",
            "bound": parity.BOUND,
            "against": "PyTorch, float32",
            "saved_predictions": {},
        }

    @override
    def speed(self, answer: parity.Answer) -> dict[str, Any]:
        arrays = {name: values[:1] for name, values in self._arrays(self.batches[0]).items()}
        batch = tensors(arrays)

        def pytorch() -> None:
            with torch.inference_mode():
                self.graph.answers([batch])

        return in_turns(lambda: answer([arrays]), pytorch)


def distance(answers: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> float:
    """Return the greatest difference of any output, as a share of it or of the outputs' deviation, if that is more.

    It is infinite where a shape, or what is no fraction, differs, and NaN where a difference is.
    """
    largest = 0.0
    for name, values in wanted.items():
        other = answers[name]
        if other.shape != values.shape or (values.dtype.kind != "f" and not np.array_equal(other, values)):
            return float("inf")
        if values.dtype.kind == "f" and values.size:
            scale = np.maximum(np.maximum(np.abs(values), values.std()), 1e-12)
            largest = float(np.maximum(largest, (np.abs(other - values) / scale).max()))
    return largest


def _validation(experiment: Experiment, run: Path, record: Mapping[str, Any]) -> Iterable[Any]:
    """Yield validation batches, of `MAX_EXAMPLES` examples together at the most; see `PlainSource` for errors."""
    datamodule = make_datamodule(experiment)
    if isinstance(datamodule, DataModule):
        set_up(experiment, datamodule, run, recorded=True)
        fingerprint, loader = datamodule.fingerprint, datamodule.loader(SPLIT)
    elif has(datamodule, "val_dataloader"):
        fingerprint, loader = look_at(datamodule).fingerprint, datamodule.val_dataloader()
    else:
        raise InputError(f"{run}: {type(datamodule).__name__} has no val_dataloader(), whose batches check an export.")
    require_same_data(run, fingerprint, record)
    count = 0
    for batch in loader:
        count += max(
            (len(leaf) for leaf in tree_flatten(batch)[0] if isinstance(leaf, Tensor) and leaf.ndim), default=1
        )
        yield batch
        if count >= MAX_EXAMPLES:
            return


def _keywords(module: LightningModule) -> list[str]:
    """Return the names in an `example_input_array` that has names, in the order of forward's parameters."""
    example = module.example_input_array
    if not isinstance(example, Mapping):
        return []
    order = [*inspect.signature(module.forward).parameters]
    return sorted(example, key=lambda name: order.index(name) if name in order else len(order))


def _count(module: LightningModule) -> int:
    """Return how many parts of a batch forward takes: those of `example_input_array`, else the first."""
    example = module.example_input_array
    return len(example) if isinstance(example, tuple | list | Mapping) else 1


def _arguments(batch: Any, count: int, module: LightningModule) -> Arguments:
    if isinstance(module, Task):
        return (batch["input"],)
    if isinstance(batch, Mapping) and (names := _keywords(module)):
        if missing := [name for name in names if name not in batch]:
            raise InputError(
                f"{type(module).__name__}: a validation batch has no {missing[0]}, only {', '.join(map(str, batch))}. "
                "Name in self.example_input_array what forward takes, as the batch has it."
            )
        return tuple(batch[name] for name in names)
    parts = (
        list(batch.values()) if isinstance(batch, Mapping) else batch if isinstance(batch, tuple | list) else [batch]
    )
    return tuple(parts[:count])


def _floats(arguments: Arguments) -> Arguments:
    leaves, nesting = tree_flatten(arguments)
    return tree_unflatten(
        [one.float() if isinstance(one, Tensor) and one.is_floating_point() else one for one in leaves], nesting
    )


def _names(module: LightningModule, arguments: Arguments) -> list[str]:
    """Return a name for each tensor: that of forward's parameter, and numbers where it holds several."""
    keywords = (
        ["input"] if isinstance(module, Task) else _keywords(module) or [*inspect.signature(module.forward).parameters]
    )
    names: list[str] = []
    for at, argument in enumerate(arguments):
        name = keywords[at] if at < len(keywords) else f"input_{at + 1}"
        leaves = tree_flatten(argument)[0]
        names += [name] if len(leaves) == 1 else [f"{name}_{number}" for number in range(1, len(leaves) + 1)]
    return names


def _varying(name: str, shapes: Sequence[Sequence[tuple[int, ...]]], at: int) -> dict[int, str]:
    """Return the axes of a tensor, besides the batch, that are not of one size in all batches."""
    first = shapes[0][at]
    return {
        axis: f"{name}_{axis}" for axis in range(1, len(first)) if any(one[at][axis] != first[axis] for one in shapes)
    }
