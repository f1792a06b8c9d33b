"""Images: their tiles, and the methods that give a map of their pixels."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as TF
from typing_extensions import override

from src.configs.errors import InputError
from src.datamodules import DataModule, PredictionInput
from src.explain.example import Example
from src.explain.extra import library
from src.explain.line import along_line
from src.explain.method import Attribution
from src.explain.subject import AT_ONCE, Subject
from src.tasks import Task

TILES = 14
"""Tiles along a side, at the most."""
BLUR = 0.1
"""Standard deviation of the blur that hides a tile, as a share of the side."""
FEW = 16
"""Images that the network takes at once: more leave the caches, and take their memory anew each time."""
SLIGHT = 0.02
"""Standard deviation of the noise that should not matter, for pixels in [0, 1]."""
NOISE, DRAWS = 0.1, 16
"""Of SmoothGrad: standard deviation, for pixels in [0, 1], and noisy copies."""
MOST_STEPS = 256
"""Of integrated gradients."""


class ImageExample(Example):
    """An image in square tiles, at most 14 along a side; a hidden tile shows the image out of focus.

    Blurring leaves colours and brightness as they are, which black tiles would not (Fong and Vedaldi 2017,
    https://arxiv.org/abs/1704.03296).

    Args:
        id: as in the predictions.
        images: floats in [0, 1], [1, channels, height, width].
        expected: the answer that it came with, '' where there is none.
    """

    at_once = FEW

    def __init__(self, id: str, images: Tensor, expected: str = "") -> None:
        height, width = images.shape[-2:]
        self.tile = max(1, -(-max(height, width) // TILES))
        self.rows, self.columns = -(-height // self.tile), -(-width // self.tile)
        names = tuple(f"row {row}, column {column}" for row in range(self.rows) for column in range(self.columns))
        super().__init__(id, names, (images,), expected)

    @property
    def image(self) -> Tensor:
        """[1, channels, height, width]."""
        return self.tensors[0]

    @functools.cached_property
    def blurred(self) -> Tensor:
        """The image out of focus, of the same shape."""
        height, width = self.image.shape[-2:]
        sigma = max(0.5, BLUR * max(height, width))
        radius = min(int(3 * sigma), min(height, width) - 1)  # more than the image cannot be mirrored
        return TF.gaussian_blur(self.image, [2 * radius + 1] * 2, [sigma] * 2)

    def as_bytes(self) -> np.ndarray:
        """Return the image as people see it, uint8 [height, width, 3]."""
        return (255 * self.image[0]).round().byte().expand(3, -1, -1).permute(1, 2, 0).numpy().copy()

    @override
    def hidden(self, kept: np.ndarray) -> tuple[Tensor, ...]:
        masks = torch.from_numpy(kept).reshape(-1, 1, self.rows, self.columns)
        masks = masks.repeat_interleave(self.tile, 2).repeat_interleave(self.tile, 3)
        masks = masks[..., : self.image.shape[-2], : self.image.shape[-1]]
        return (torch.where(masks, self.image, self.blurred).contiguous(memory_format=_format_of(self.image)),)

    @override
    def changed(self) -> ImageExample:
        """Return the image with noise that is hard to see."""
        noise = torch.randn(self.image.shape, generator=torch.Generator().manual_seed(0))
        return ImageExample(self.id, (self.image + SLIGHT * noise).clamp(0, 1))

    @override
    def of_parts(self, values: np.ndarray) -> np.ndarray:
        """Return the mean of each tile of a map [height, width]; values of tiles are those."""
        if values.ndim == 1:
            return values.astype(np.float64)
        maps = torch.from_numpy(values.astype(np.float64))[None, None]
        return F.avg_pool2d(maps, self.tile, ceil_mode=True, count_include_pad=False).numpy().ravel()

    def of_pixels(self, parts: np.ndarray) -> np.ndarray:
        """Return a map [height, width] of values of the tiles."""
        maps = parts.reshape(self.rows, self.columns).repeat(self.tile, 0).repeat(self.tile, 1)
        return maps[: self.image.shape[-2], : self.image.shape[-1]]


def grad_cam(subject: Subject, examples: Sequence[ImageExample], targets: Sequence[int]) -> list[Attribution]:
    """Grad-CAM (Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391): one pass forward, and one back to a layer.

    The layer is the last one that still has maps, of a convolution or of tokens; see `last_maps`. Each place has its
    own gradient. Where the network then takes the mean over all places, the result is captum's LayerGradCam. Elsewhere,
    as before a flattening, the mean of the gradients that Grad-CAM takes would cancel them out (HiResCAM, Draelos and
    Carin 2021, https://arxiv.org/abs/2011.08891).
    """
    layer = subject.maps(examples[0].tensors)
    found: list[Attribution] = []
    for _, images, target in _batches(examples, targets):
        with layer.watched() as maps:
            score = subject.raw_score((images,), target).sum()
        (gradient,) = torch.autograd.grad(score, maps.output)
        activations, gradients = layer.as_maps(maps.output.detach()), layer.as_maps(gradient)
        cam = (gradients * activations).sum(1, keepdim=True).relu()
        cam = F.interpolate(cam.float(), images.shape[-2:], mode="bilinear")[:, 0]
        found += [Attribution(values) for values in cam.double().numpy()]
    return found


def saliency(subject: Subject, examples: Sequence[ImageExample], targets: Sequence[int]) -> list[Attribution]:
    """Gradients of the pixels (Simonyan et al. 2014, arXiv 1312.6034), over noisy copies (SmoothGrad, Smilkov et al.
    2017, arXiv 1706.03825). They have no sign."""
    captum = library("captum.attr")
    tunnel = captum.NoiseTunnel(captum.Saliency(_raw(subject)))
    found: list[Attribution] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _, images, target in _batches(examples, targets, AT_ONCE // DRAWS):
            gradients = tunnel.attribute(
                images, nt_type="smoothgrad", nt_samples=DRAWS, stdevs=NOISE, additional_forward_args=(target,)
            )
            found += [Attribution(values) for values in gradients.detach().amax(1).double().numpy()]
    return found


def integrated_gradients(
    subject: Subject, examples: Sequence[ImageExample], targets: Sequence[int]
) -> list[Attribution]:
    """Integrated gradients (Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365) from the image out of focus.

    A pixel has the sum over its channels. They add up to the raw score less that of the image out of focus.

    Raises:
        InputError: captum is not installed.
    """
    return [_integrated(subject, *pair) for pair in zip(examples, targets, strict=True)]


def _integrated(subject: Subject, example: ImageExample, target: int) -> Attribution:
    height, width = example.image.shape[-2:]

    def score(pixels: Tensor) -> Tensor:
        """[points, pixels, channels] -> raw score [points]."""
        images = pixels.transpose(1, 2).unflatten(2, (height, width))
        images = images.contiguous(memory_format=_format_of(example.image))
        return subject.raw_score((images,), torch.full((len(images),), target))

    start, end = (image.flatten(2).transpose(1, 2) for image in (example.blurred, example.image))
    values, difference = along_line(score, start, end, MOST_STEPS)
    return Attribution(values.reshape(height, width), sums_to=difference)


def attention_rollout(subject: Subject, examples: Sequence[ImageExample], targets: Sequence[int]) -> list[Attribution]:
    """Attention rollout (Abnar and Zuidema 2020, https://arxiv.org/abs/2005.00928). It knows no class and no sign.

    Raises:
        InputError: the network has no attention of timm's, or its maps have another number of tokens than a grid.
    """
    layers = [module for module in subject.network.modules() if isinstance(module, nn.Module) and _attends(module)]
    if not layers:
        raise InputError(
            "--method attention-rollout: the network has no attention. Take grad-cam, integrated-gradients, occlusion "
            "or saliency."
        )
    found: list[Attribution] = []
    for _, images, _ in _batches(examples, targets):
        weights = _attentions(subject, layers, images)
        size = weights[0].shape[-1]
        height, width, first = _grid(subject, size, images)
        if first < 0 or any(one.shape != (len(images), size, size) for one in weights):
            raise InputError(
                f"--method attention-rollout: {type(subject.network).__name__} attends within windows, pools its "
                "tokens or has more than one grid of them, so what reaches the answer is not known. Take grad-cam, "
                "integrated-gradients, occlusion or saliency."
            )
        rollout = torch.eye(size).expand(len(images), size, size)
        for one in weights:
            rollout = (0.5 * one + 0.5 * torch.eye(size)) @ rollout
        reads_first = first and _of_tokens(subject, "global_pool", "token") == "token"  # else all are averaged
        reader = rollout[:, 0] if reads_first else rollout[:, first:].mean(1)
        maps = F.interpolate(reader[:, first:].reshape(-1, 1, height, width), images.shape[-2:], mode="bilinear")[:, 0]
        found += [Attribution(values) for values in maps.double().numpy()]
    return found


def _grid(subject: Subject, size: int, images: Tensor) -> tuple[int, int, int]:
    """Return height and width of the grid of patches, and how many class and register tokens come before it, which is
    below 0 where so many tokens are no grid.

    timm's networks say how many come first. Elsewhere it is one, unless all are a grid.
    """
    ratio = images.shape[-2] / images.shape[-1]
    first = _of_tokens(subject, "num_prefix_tokens", None)
    for prefix in (0, 1) if first is None else (first,):
        width = round(((size - prefix) / ratio) ** 0.5)
        height = (size - prefix) // max(width, 1)
        if width and height * width == size - prefix and round(width * ratio) == height:
            return height, width, prefix
    return 0, 0, -1


def _of_tokens(subject: Subject, name: str, default: Any) -> Any:
    """Return an attribute of the network of timm's that knows its class and register tokens."""
    for module in subject.network.modules():
        if hasattr(module, "num_prefix_tokens"):
            return getattr(module, name, default)
    return default


def _attends(module: Any) -> bool:
    return hasattr(module, "fused_attn") and isinstance(getattr(module, "attn_drop", None), nn.Module)


@torch.no_grad()
def _attentions(subject: Subject, layers: Sequence[Any], images: Tensor) -> list[Tensor]:
    """Return each layer's attention, the mean over its heads, [examples, tokens, tokens]."""
    weights: list[Tensor] = []
    fused = [layer.fused_attn for layer in layers]
    hooks = [
        layer.attn_drop.register_forward_hook(lambda _, __, output: weights.append(output.float().mean(1)))
        for layer in layers
    ]
    try:
        for layer in layers:
            layer.fused_attn = False
        subject.outputs((images,))
    finally:
        for layer, was in zip(layers, fused, strict=True):
            layer.fused_attn = was
        for hook in hooks:
            hook.remove()
    return weights


def _raw(subject: Subject) -> Any:
    return lambda images, target: subject.raw_score(
        (images,), target.expand(len(images)) if len(target) == 1 else target
    )


def _batches(examples: Sequence[ImageExample], targets: Sequence[int], size: int = AT_ONCE) -> Any:
    for start in range(0, len(examples), size):
        part = examples[start : start + size]
        images = torch.cat([example.image for example in part]).contiguous(memory_format=_format_of(part[0].image))
        yield part, images, torch.tensor([*targets[start : start + size]])


def _format_of(images: Tensor) -> Any:
    last = images.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def read(
    datamodule: DataModule, task: Task, inputs: Sequence[PredictionInput], most: int
) -> tuple[list[ImageExample], dict[str, str], list[str]]:
    """Return the images of inputs, id -> why one cannot be read, and what the user should know.

    Args:
        datamodule: of the run, restored.
        task: of the run.
        inputs: see `Preparation.read`.
        most: images after which no further one is decoded.

    Raises:
        InputError: the inputs cannot be used.
    """
    ids = datamodule.prepare_prediction(inputs, task.spec)
    expected = datamodule.prepared.expected or [""] * len(ids)
    dataset: Any = datamodule.predict_dataloader().dataset
    examples: list[ImageExample] = []
    errors: dict[str, str] = {}
    for position, id in enumerate(ids[: most + 1]):  # one more tells that there are more
        batch = dataset[[position]]
        if why := batch["error"].get(position):
            errors[id] = why
        else:
            images = task.input.tensors(batch, torch.float32)[0]
            examples.append(ImageExample(id, images, expected[position]))
    return examples, errors, list(datamodule.notes)
