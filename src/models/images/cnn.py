"""A small convolutional network for images of 28 to 64 pixels, trained from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from src.configs.errors import InputError
from src.models.heads import Head
from src.models.state_dicts import load_file


class CNN(nn.Module):
    """Blocks of 3x3 convolution, batch norm, ReLU and 2x2 max pooling, then global average pooling and a linear head.

    Args:
        num_outputs: of the head, for an image.
        in_channels: 3 for colour, 1 for grey.
        widths: channels of each block.
        kernel_size, padding: of the blocks' convolutions; padding None keeps the maps' size.
        norm: batch norm, of the images too; else convolutions have biases.
        pooled: how many blocks, from the first, end with max pooling; None: all.
        residual: add two more 3x3 convolutions to what each block returns (He et al. 2016, arXiv 1512.03385).
        flatten: side of the images, for a head on the last maps as they are; 0: their averages, of any images.
        hidden: width of a dense layer with ReLU before the head; 0: none.
        dropout: on the features, before the head.
        weights: 'none' (random) or a file with this network's state dict, such as a run's checkpoint.

    Convolutions start as in He et al. 2015 (https://arxiv.org/abs/1502.01852, eq. 10). Images come as floats in
    [0, 1].
    """

    def __init__(
        self,
        num_outputs: int,
        *,
        in_channels: int = 3,
        widths: Sequence[int] = (32, 64, 128, 256),
        kernel_size: int = 3,
        padding: int | None = None,
        norm: bool = True,
        pooled: int | None = None,
        residual: bool = False,
        flatten: int = 0,
        hidden: int = 0,
        dropout: float = 0.2,
        weights: str = "none",
    ) -> None:
        super().__init__()
        # Batch norm of the images, in place of the data set's mean and standard deviation.
        self.norm = nn.BatchNorm2d(in_channels) if norm else nn.Identity()
        padding = kernel_size // 2 if padding is None else padding
        blocks: list[nn.Module] = []
        side = flatten
        for number, (before, width) in enumerate(zip((in_channels, *widths), widths, strict=False)):
            blocks += convolution(before, width, kernel_size, padding, norm)
            side += 2 * padding - kernel_size + 1
            if pooled is None or number < pooled:
                blocks.append(nn.MaxPool2d(2))
                side //= 2
            if residual:
                blocks.append(Residual(width, norm))
        if flatten and side < 1:
            raise InputError(f"--image-size {flatten}: too small for {len(widths)} blocks of this network.")
        self.blocks = nn.Sequential(*blocks)
        pool: list[nn.Module] = [nn.Flatten()] if flatten else [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        num_features = widths[-1] * (side**2 if flatten else 1)
        if hidden:
            pool += [nn.Linear(num_features, hidden), nn.ReLU()]
        self.pool = nn.Sequential(*pool)
        self.head = Head(hidden or num_features, num_outputs, dropout)
        for module in self.blocks.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.weights_source = "none (random)" if weights == "none" else load_file(self, Path(weights), prefix="model.")

    def features(self, images: Tensor) -> Tensor:
        """[batch, channels, height, width] in [0, 1] -> [batch, inputs of the head]; sides of 2 ** blocks at least."""
        return self.pool(self.blocks(self.norm(images)))

    def forward(self, images: Tensor) -> Tensor:
        """[batch, channels, height, width] in [0, 1] -> [batch, num_outputs]."""
        return self.head(self.features(images))

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return the parameters by depth, from the input to the head."""
        groups = [list(self.norm.parameters())]
        for module in self.blocks:
            if isinstance(module, nn.Conv2d):  # a new block
                groups.append([])
            groups[-1] += module.parameters()
        groups += [list(self.pool.parameters()), list(self.head.parameters())]
        return [group for group in groups if group]


class Residual(nn.Module):
    """Two 3x3 convolutions, whose result is added to what comes in."""

    def __init__(self, width: int, norm: bool) -> None:
        super().__init__()
        self.branch = nn.Sequential(*convolution(width, width, 3, 1, norm), *convolution(width, width, 3, 1, norm))

    def forward(self, maps: Tensor) -> Tensor:
        """[batch, width, height, width] -> the same shape."""
        return maps + self.branch(maps)


def convolution(before: int, width: int, kernel_size: int, padding: int, norm: bool) -> list[nn.Module]:
    """Return a convolution, its batch norm if wanted, and ReLU."""
    conv = nn.Conv2d(before, width, kernel_size, padding=padding, bias=not norm)
    return [conv, *([nn.BatchNorm2d(width)] if norm else []), nn.ReLU()]
