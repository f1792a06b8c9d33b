"""A pretrained backbone and a linear head: a ResNet, or any other backbone of timm by name."""

from __future__ import annotations

from typing import Self

import torch
from timm.models import group_parameters
from torch import Tensor, nn

from src.models.heads import Head
from src.models.pretrained import create_backbone


class ResNet(nn.Module):
    """Images -> outputs, with `features` and `head` apart so that a frozen backbone need run only once.

    Args:
        backbone: timm name.
        num_outputs: of the head, for an image.
        weights: 'imagenet', 'none' or a file with the backbone's state dict.
        frozen: share of the backbone's depth, counted in layer groups from the input, whose weights stay as they are.
        fixed_norm: keep the batch norms' running statistics, as is usual when fine-tuning on few images.
        dropout: on the features, before the head.
        drop_path: share of the residual branches left out in training, of the last block; it grows linearly towards it
            (stochastic depth, Huang et al. 2016, arXiv 1603.09382).

    Raises:
        InputError: the weights are not available or do not fit, or the backbone has no stochastic depth.

    Images come as floats in [0, 1]; the normalisation that the weights were trained with is part of the model.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: str,
        num_outputs: int,
        *,
        weights: str = "none",
        frozen: float = 0.0,
        fixed_norm: bool = False,
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        network, self.weights_source = create_backbone(backbone, weights, drop_path)
        self.backbone: nn.Module = network
        config = network.pretrained_cfg
        self.register_buffer("mean", torch.tensor(config["mean"])[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(config["std"])[:, None, None], persistent=False)
        num_features = getattr(network, "head_hidden_size", network.num_features)  # MobileNets widen them after pooling
        self.head = Head(num_features, num_outputs, dropout)
        self.fixed_norm = fixed_norm
        self.groups = group_parameters(network, network.group_matcher(coarse=True))
        named = dict(self.backbone.named_parameters())
        for group in list(self.groups)[: round(frozen * len(self.groups))]:
            for name in self.groups[group]:
                named[name].requires_grad_(False)
        self.train()

    def features(self, images: Tensor) -> Tensor:
        """[batch, 3, height, width] in [0, 1] -> [batch, num_features]."""
        return self.backbone((images - self.mean) / self.std)

    def forward(self, images: Tensor) -> Tensor:
        """[batch, 3, height, width] in [0, 1] -> [batch, num_outputs]."""
        return self.head(self.features(images))

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return the parameters by depth, from the input to the head."""
        named = dict(self.backbone.named_parameters())
        return [*([named[name] for name in names] for names in self.groups.values()), list(self.head.parameters())]

    def no_weight_decay(self) -> set[str]:
        """Return the names of the parameters that timm has no weight decay act on, such as position embeddings."""
        of_timm = getattr(self.backbone, "no_weight_decay", set)
        return {f"backbone.{name}" for name in of_timm()}

    def train(self, mode: bool = True) -> Self:
        """Set training mode, but keep frozen modules and, with `fixed_norm`, every norm in evaluation mode."""
        super().train(mode)
        for module in self.backbone.modules():
            still = any(True for _ in module.parameters()) and not any(p.requires_grad for p in module.parameters())
            if still or (self.fixed_norm and isinstance(module, nn.modules.batchnorm._BatchNorm)):
                module.eval()
        return self
