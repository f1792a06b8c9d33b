"""A local file as the start of a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from src.configs.errors import InputError
from src.resources.weights_files import load_weights


def load_file(model: nn.Module, path: Path, *, prefix: str, drop: tuple[str, ...] = ()) -> str:
    """Load a state dict into `model`, all of it and nothing else, and return the source for the record.

    Args:
        model: takes the tensors.
        path: a state dict saved by torch or safetensors, or a checkpoint of a run.
        prefix: where the model's tensors are in a run's checkpoint; a plain state dict has none.
        drop: keys that start with this are left out (a classifier of other classes).

    Raises:
        InputError: no such file, no state dict of tensors, or keys or shapes that do not fit.
    """
    if not path.is_file():
        raise InputError(f"--weights {path}: no such file. Give a file with a state dict, or none.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file as load_safetensors

            state = load_safetensors(path)
        else:
            state = load_weights(path)
            state = state.get("state_dict", state)
        if any(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        model.load_state_dict({name: value for name, value in state.items() if not name.startswith(drop)})
    except Exception as error:  # torch raises a dozen kinds for files that are no checkpoint
        reason = str(error).partition("\n")[2].strip() or str(error)
        raise InputError(
            f"--weights {path}: not a state dict of this {type(model).__name__}: {reason[:300]}"
        ) from error
    return f"file {path}"


def make_room(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any, names: Sequence[str]) -> None:
    """Give tensors of a module the shapes that they have in a state dict, before it is loaded.

    A hook of `register_load_state_dict_pre_hook`, for what is fitted: how much there is, only the checkpoint knows.
    """
    for name in names:
        if (found := state.get(prefix + name)) is not None:
            tensor = getattr(module, name)
            tensor.data = tensor.new_empty(found.shape)
