"""A small convolutional network for pictures of 28 to 64 pixels, trained from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from src.models.head import Head
from src.models.state import load_file


class CNN(nn.Module):
    """Blocks of 3x3 convolution, batch norm, ReLU and 2x2 max pooling, then global average pooling and a linear head.

    Args:
        num_classes: outputs of the head.
        in_channels: 3 for colour, 1 for grey.
        widths: channels of each block.
        dropout: on the pooled features, before the head.
        weights: 'none' (random) or a file with this network's state dict, such as a run's checkpoint.

    Convolutions start as in He et al. 2015 (https://arxiv.org/abs/1502.01852, eq. 10). Pictures come as floats in
    [0, 1].
    """

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: int = 3,
        widths: Sequence[int] = (32, 64, 128, 256),
        dropout: float = 0.2,
        weights: str = "none",
    ) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)  # in place of the data set's mean and standard deviation
        blocks: list[nn.Module] = []
        for before, width in zip((in_channels, *widths), widths, strict=False):
            blocks += [
                nn.Conv2d(before, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = Head(widths[-1], num_classes, dropout)
        for module in self.blocks:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.weights_source = "none (random)" if weights == "none" else load_file(self, Path(weights), prefix="model.")

    def features(self, images: Tensor) -> Tensor:
        """[batch, channels, height, width] in [0, 1] -> [batch, widths[-1]]; sides of at least 2 ** len(widths)."""
        return self.pool(self.blocks(self.norm(images)))

    def forward(self, images: Tensor) -> Tensor:
        """[batch, channels, height, width] in [0, 1] -> logits [batch, num_classes]."""
        return self.head(self.features(images))

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return the parameters by depth, from the input to the head."""
        convolutions = [
            [*conv.parameters(), *norm.parameters()]
            for conv, norm in zip(self.blocks[::4], self.blocks[1::4], strict=True)
        ]
        return [list(self.norm.parameters()), *convolutions, list(self.head.parameters())]
