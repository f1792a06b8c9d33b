"""The nearest training examples, in the features of any network."""

from __future__ import annotations

import functools
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.configs.errors import InputError
from src.configs.neighbours import Neighbours
from src.configs.spec import TargetKind
from src.models.heads import Head, require_finite
from src.models.state_dicts import make_room

CLOSEST = 1e-6
"""Distance below which two examples are one: all such count alike, and more than any other."""


class NearestNeighbours(nn.Module):
    """The nearest training examples vote (Cover & Hart 1967, https://doi.org/10.1109/TIT.1967.1053964), each with its
    inverse distance (Dudani 1976, https://doi.org/10.1109/TSMC.1976.5408784). `head.fit` keeps the examples.

    Args:
        network: makes the features; its own head is dropped.
        num_outputs: classes, labels, or 1 for a number.
        kind: of the target.
        neighbours: how many vote.
        seed: of the draw where there are too many examples.

    Raises:
        InputError: several numbers are to be predicted for one target, such as quantiles.
    """

    def __init__(
        self, network: nn.Module, num_outputs: int, kind: TargetKind, neighbours: Neighbours, seed: int = 0
    ) -> None:
        super().__init__()
        if kind == "regression" and num_outputs > 1:
            raise InputError("--loss: nearest neighbours predict a mean. Choose mse.")
        own = network.head
        assert isinstance(own, Head)
        network.head = nn.Identity()
        self.network = network
        self.head = Voters(own.linear.in_features, num_outputs, kind, neighbours, seed)
        self.weights_source = str(network.weights_source)

    def features(self, *inputs: Tensor) -> Tensor:
        """Return the network's features [batch, num_features]."""
        return cast(Any, self.network).features(*inputs)

    def forward(self, *inputs: Tensor) -> Tensor:
        """[batch, ...] -> [batch, num_outputs]."""
        return self.head(self.features(*inputs))

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return the parameters by depth, from the input to the head."""
        return [list(self.network.parameters()), list(self.head.parameters())]


class Voters(nn.Module):
    """Kept examples and their answers.

    A class or label gets the share of the votes, with the training's share as one vote more, so that none is 0.

    Args:
        num_features, num_outputs: of an example.
        kind, neighbours, seed: see `NearestNeighbours`.

    Attributes:
        answers: what each example votes for [examples, num_outputs].
        bias: what is added to each output [num_outputs].
        points: features of the examples [examples, num_features].
        prior: shares of the training, for classes and labels [num_outputs].
    """

    points: Tensor
    prior: Tensor

    def __init__(
        self, num_features: int, num_outputs: int, kind: TargetKind, neighbours: Neighbours, seed: int
    ) -> None:
        super().__init__()
        self.kind, self.neighbours, self.seed = kind, neighbours, seed
        self.answers = nn.Parameter(torch.zeros(0, num_outputs))
        self.bias = nn.Parameter(torch.zeros(num_outputs))
        self.register_buffer("points", torch.zeros(0, num_features))
        self.register_buffer("prior", torch.full((num_outputs,), 0.5))
        self.register_load_state_dict_pre_hook(functools.partial(make_room, names=("answers", "points")))

    def forward(self, features: Tensor) -> Tensor:
        """[batch, num_features] -> [batch, num_outputs]."""
        with torch.autocast(features.device.type, enabled=False):
            own = self._placed(features.to(self.points.dtype))
            count = min(self.neighbours.count, self.points.shape[0])
            distances = self.points.square().sum(1) - 2 * own @ self.points.T  # squared, but for the own square
            nearest = distances.topk(count, largest=False).indices
            gaps = (own[:, None] - self.points[nearest]).square().sum(2)  # the difference above would round
            votes = 1 / gaps.clamp_min(CLOSEST**2).sqrt()
            found = (votes[:, :, None] * self.answers[nearest]).sum(1)
            if self.kind == "regression":
                return found / votes.sum(1, keepdim=True).clamp_min(CLOSEST) + self.bias
            total = found.sum(1, keepdim=True) if self.kind == "single_label" else votes.sum(1, keepdim=True)
            share = (count * found / total.clamp_min(CLOSEST) + self.prior) / (count + 1)
            return (share.log() if self.kind == "single_label" else share.logit()) + self.bias

    def _placed(self, features: Tensor) -> Tensor:
        return F.normalize(features) if self.neighbours.distance == "cosine" else features

    @torch.no_grad()
    def fit(self, features: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> str:
        """Keep the examples and return a line for the summary.

        Args:
            features: of the training examples [examples, num_features], on any device.
            targets: classes or numbers [examples], or labels [examples, labels].
            class_weights: [classes], of the votes for each.

        Raises:
            InputError: a feature is NaN or infinite.
        """
        require_finite(features)
        count, device = len(features), self.points.device
        answers = targets.to(device)
        if self.kind == "single_label":
            answers = F.one_hot(answers, len(self.bias)).float()
            answers = answers if class_weights is None else answers * class_weights.to(device)
        answers = answers.float().view(count, -1)
        if self.kind != "regression":
            total = answers.sum() if self.kind == "single_label" else torch.tensor(float(count), device=device)
            self.prior.copy_((answers.sum(0) + 0.5) / (total + 1))
        kept = torch.arange(count)
        if count > self.neighbours.most:
            kept = torch.randperm(count, generator=torch.Generator().manual_seed(self.seed))[: self.neighbours.most]
        self.answers.data = answers[kept.to(device)].to(self.answers.dtype)
        self.points.data = self._placed(features[kept.to(features.device)].to(self.points))
        shown = f"all {count}" if len(kept) == count else f"{len(kept)} of {count}, drawn at random,"
        return f"{shown} training examples vote, the nearest {min(self.neighbours.count, len(kept))} on each input"
