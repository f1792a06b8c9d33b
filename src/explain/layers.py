"""The layer of a network whose maps Grad-CAM weighs."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from src.configs.errors import InputError

PLACES = 7
"""Side that maps have at least, as a ResNet's last ones have for 224 pixels: coarser ones hardly tell one place from
another."""
Layout = Literal["channels first", "channels last", "tokens"]


@dataclass
class Watched:
    """What a layer gives while the network computes."""

    outputs: list[Tensor] = field(default_factory=list)

    @property
    def output(self) -> Tensor:
        """Of its last call, from which gradients can be taken."""
        return self.outputs[-1]


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer, and how its output is read as maps.

    Attributes:
        name: as `named_modules` has it.
        module: the layer.
        layout: of its output.
        side: height and width of the maps.
        channels: of the maps.
        shape: of its output, without the examples.
    """

    name: str
    module: nn.Module
    layout: Layout
    side: tuple[int, int]
    channels: int
    shape: torch.Size

    def __str__(self) -> str:
        return f"{self.name} ({self.side[0]} x {self.side[1]})"

    @contextlib.contextmanager
    def watched(self) -> Iterator[Watched]:
        """Within this context the layer's output is kept, and gradients stop there: nothing below is computed twice."""
        kept = Watched()

        def keep(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            kept.outputs.append(output.detach().requires_grad_())
            return kept.output.clone()  # what follows may work in place

        hook = self.module.register_forward_hook(keep)
        try:
            yield kept
        finally:
            hook.remove()

    def as_maps(self, output: Tensor) -> Tensor:
        """Return what the layer gives, or its gradient, as [examples, channels, height, width]."""
        if self.layout == "channels first":
            return output
        if self.layout == "channels last":
            return output.permute(0, 3, 1, 2)
        patches = output[:, output.shape[1] - math.prod(self.side) :]  # class and register tokens come first
        return patches.transpose(1, 2).unflatten(2, self.side)


def last_maps(network: nn.Module, tensors: tuple[Tensor, ...]) -> Layer:
    """Return the last layer whose output is maps of 7 x 7 or finer that the answer depends on place by place.

    For images of the size that a network is made for, that is the last convolution, with its norm and activation; of a
    transformer the tokens that go into the last attention: behind it, a network that reads the class token alone
    depends on no other. Layers within attention, such as queries, are taken only where there is nothing else.

    Args:
        network: to look at.
        tensors: one input of it, an image [1, channels, height, width] first.

    Raises:
        InputError: it has none.
    """
    shapes = tuple(tensors[0].shape[-2:])
    candidates: list[Layer] = []
    tokens: set[int] = set()

    def look(name: str, module: nn.Module) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            if not isinstance(output, Tensor):
                return
            if output.ndim == 3:
                tokens.add(output.shape[1])
            if found := _layout(output, shapes):
                candidates.append(Layer(name, module, *found, output.shape[1:]))

        return module.register_forward_hook(hook)

    hooks = [look(name, module) for name, module in network.named_modules() if name]
    try:
        with torch.no_grad():
            network(*tensors)
    finally:
        for hook in hooks:
            hook.remove()
    candidates = [one for one in candidates if one.layout == "tokens" or not tokens & {*one.side}]  # no attention map
    finest = max((min(layer.side) for layer in candidates), default=0)
    candidates = [layer for layer in candidates if min(layer.side) >= min(PLACES, finest)]
    attentions = tuple(f"{name}." for name, module in network.named_modules() if name and _is_attention(module))
    within = [layer for layer in candidates if layer.name.startswith(attentions)]  # queries, keys, values
    for layers in ([layer for layer in candidates if layer not in within], within):
        for layer in reversed(layers):
            hidden = layer.layout == "tokens" and layer.channels != layers[-1].channels  # units of an MLP
            if not hidden and _matters(network, tensors, layer):
                return layer
    raise InputError(
        f"--method grad-cam: {type(network).__name__} has no convolution and no tokens, so no maps of the image. Take "
        "integrated-gradients, occlusion or saliency."
    )


def _is_attention(module: nn.Module) -> bool:
    """Return whether a module is attention, which timm and transformers have in the class's name."""
    name = type(module).__name__.lower()
    return "attn" in name or "attention" in name


def _layout(output: Tensor, image: tuple[int, ...]) -> tuple[Layout, tuple[int, int], int] | None:
    """Return how an output is laid out, the side of its maps and their channels; None where it has no places."""
    ratio = image[0] / image[1]
    if output.ndim == 4:
        _, first, second, third = output.shape
        as_read: list[tuple[Layout, tuple[int, int], int]] = [
            ("channels first", (second, third), first),
            ("channels last", (first, second), third),
        ]
        for layout, (height, width), channels in as_read:
            if height * width > 1 and math.isclose(height / width, ratio, rel_tol=0.2):
                return layout, (height, width), channels
    if output.ndim == 3:
        width = math.isqrt(round(output.shape[1] / ratio))
        height = round(width * ratio)
        if height * width > 1 and output.shape[1] - height * width < 16:
            return "tokens", (height, width), output.shape[2]
    return None


def _matters(network: nn.Module, tensors: tuple[Tensor, ...], layer: Layer) -> bool:
    """Return whether the output depends on the maps at more than one place."""
    with layer.watched() as kept, torch.enable_grad():
        outputs = network(*tensors)
    if not outputs.requires_grad:
        return False
    (gradient,) = torch.autograd.grad(outputs.float().square().sum(), kept.output, allow_unused=True)
    if gradient is None or gradient.shape[1:] != layer.shape:  # called again with inputs of another size
        return False
    return int((layer.as_maps(gradient).abs().sum(1) > 0).sum()) > 1
