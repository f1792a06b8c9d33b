"""Gradient-boosted trees as tensors."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn import functional as F

from src.configs.errors import InputError
from src.configs.spec import DataSpec
from src.configs.table import Boosting
from src.models.heads import FEW, require_finite
from src.models.state_dicts import load_file, make_room

MOST_VALUES = 255
"""Values of a category up to which scikit-learn takes it as one; the codes of others are compared as numbers."""
LOSSES = {"mse": "squared_error", "mae": "absolute_error", "quantile": "quantile"}
"""Loss of a regression -> scikit-learn's name."""
GROWN = ("values", "roots", "feature", "threshold", "child", "missing_right", "split", "right_codes", "levels")
"""Tensors of `Trees` whose shapes depend on the trees."""


class BoostedTrees(nn.Module):
    """Gradient boosting (Friedman 2001, https://doi.org/10.1214/aos/1013203451) as scikit-learn's HistGradientBoosting
    fits it to all training rows at once: `head.fit`. Before that it has no trees.

    Args:
        spec: the numbers and categories of a row.
        num_outputs: classes, labels, or numbers that are predicted.
        boosting: how the trees grow.
        loss: of a regression: mse, mae or quantile.
        interval: share of the targets that should lie between the two outer ones of three quantiles.
        seed: of the rows that are held out to stop early.
        weights: 'none', or a file with this network's state dict, such as a run's checkpoint.

    Raises:
        InputError: boosting cannot minimise such a loss.
    """

    def __init__(
        self,
        spec: DataSpec,
        num_outputs: int,
        boosting: Boosting,
        *,
        loss: str = "mse",
        interval: float = 0.9,
        seed: int = 0,
        weights: str = "none",
    ) -> None:
        super().__init__()
        if loss not in LOSSES:
            raise InputError(f"--loss {loss}: boosted trees minimise {', '.join(LOSSES)}.")
        rest = (1 - interval) / 2
        quantiles = (rest, 0.5, 1 - rest) if loss == "quantile" else (None,)
        self.head = Trees(spec, num_outputs, boosting, LOSSES[loss], quantiles, seed)
        self.weights_source = (
            "none (fitted by scikit-learn)" if weights == "none" else load_file(self, Path(weights), prefix="model.")
        )

    def features(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Numbers [batch, n] and categories [batch, c] -> [batch, n + c], the categories as their codes."""
        return torch.cat([numbers, categories.to(numbers.dtype)], dim=1)

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Numbers [batch, n] and categories [batch, c] -> [batch, num_outputs]."""
        return self.head(self.features(numbers, categories))

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return the parameters, a single group."""
        return [list(self.parameters())]


class Trees(nn.Module):
    """The trees of a boosting. Their raw scores are scikit-learn's, added up in float32.

    All nodes are in a row; a leaf is its own child. Thresholds are rounded down to float32, which sends each float32
    number where the float64 threshold does. A checkpoint is all that they are restored from.

    Args:
        spec, num_outputs, boosting, seed: see `BoostedTrees`.
        loss: scikit-learn's name of a regression's loss.
        quantiles: of a regression; None for its mean.

    Attributes:
        values: of the leaves, and 0 of the other nodes [nodes].
        bias: what is added to the trees of each output [num_outputs].
        score_of: the score of each output, or `scores` where it has none [num_outputs]. Two classes share one.
        roots: the first node of each tree [iterations, scores].
        feature, threshold: a row goes right where the feature is greater [nodes].
        child: the left and the right one [nodes, 2].
        missing_right: whether a row goes right where the feature is missing [nodes].
        split: where a category is split its row in `right_codes`, else 0 [nodes].
        right_codes: the codes of a category that go right; none in the first row [splits of categories + 1, codes].
        levels: how many nodes with children all trees have, level by level [depth].
    """

    roots: Tensor
    score_of: Tensor
    feature: Tensor
    threshold: Tensor
    child: Tensor
    missing_right: Tensor
    split: Tensor
    right_codes: Tensor
    levels: Tensor
    flag_of: Tensor

    def __init__(
        self,
        spec: DataSpec,
        num_outputs: int,
        boosting: Boosting,
        loss: str,
        quantiles: tuple[float | None, ...],
        seed: int,
    ) -> None:
        super().__init__()
        self.boosting, self.loss, self.quantiles, self.seed = boosting, loss, quantiles, seed
        self.numbers, self.categories = spec.numbers - len(spec.missing), len(spec.categories)
        self.columns = self.numbers + self.categories
        self.sizes = {self.numbers + i: size for i, size in enumerate(spec.categories) if size <= 1 + MOST_VALUES}
        self.can_be_missing = bool(spec.missing)
        flag_of = torch.full((self.numbers,), spec.numbers + self.categories)  # the column of 0s that `_cells` adds
        flag_of[list(spec.missing)] = self.numbers + torch.arange(len(spec.missing))
        self.register_buffer("flag_of", flag_of)
        self.bias = nn.Parameter(torch.zeros(num_outputs))
        self.values = nn.Parameter(torch.zeros(0))
        self.register_buffer("score_of", torch.zeros(num_outputs, dtype=torch.int64))
        self.register_buffer("roots", torch.zeros(0, 0, dtype=torch.int32))
        self.register_buffer("feature", torch.zeros(0, dtype=torch.int32))
        self.register_buffer("threshold", torch.zeros(0))
        self.register_buffer("child", torch.zeros(0, 2, dtype=torch.int32))
        self.register_buffer("missing_right", torch.zeros(0, dtype=torch.bool))
        self.register_buffer("split", torch.zeros(0, dtype=torch.int32))
        self.register_buffer("right_codes", torch.zeros(1, 1, dtype=torch.bool))
        self.register_buffer("levels", torch.zeros(0, dtype=torch.int64))
        self.register_load_state_dict_pre_hook(functools.partial(make_room, names=GROWN))

    def forward(self, features: Tensor) -> Tensor:
        """[batch, numbers and categories] -> [batch, num_outputs]."""
        cells = self._cells(features)
        batch, columns = cells.shape  # `len` would fix the batch of an exported graph
        rows = columns * torch.arange(batch, dtype=torch.int32, device=cells.device)
        rows = rows[:, None].expand(-1, self.roots.numel()).flatten()
        at = self.roots.flatten().expand(batch, -1).flatten()  # the node of each row in each tree
        cells, child, right_codes = cells.flatten(), self.child.flatten(), self.right_codes.flatten()
        codes = self.right_codes.shape[1]
        for _ in range(len(self.levels)):
            cell = cells.index_select(0, rows + self.feature.index_select(0, at))  # gather would take 5 times as long
            right = cell > self.threshold.index_select(0, at)
            if self.can_be_missing:
                right = right | (cell.isnan() & self.missing_right.index_select(0, at))
            if len(self.right_codes) > 1:
                code = cell.nan_to_num(0).clamp(0, codes - 1).int()  # of numbers too, to no effect
                right = right | right_codes.index_select(0, codes * self.split.index_select(0, at) + code)
            at = child.index_select(0, 2 * at + right)
        scores = self.values.index_select(0, at).view(batch, *self.roots.shape).sum(1)
        return F.pad(scores, (0, 1))[:, self.score_of] + self.bias

    def _cells(self, features: Tensor) -> Tensor:
        """Return numbers, NaN where they are missing, and categories [batch, columns].

        Raises:
            InputError: the network is in half precision.
        """
        if self.threshold.dtype != torch.float32:
            raise InputError("--precision: trees compare numbers in float32. Choose 32-true.")
        features = features.float()
        numbers = features[:, : self.numbers]
        if self.can_be_missing:
            absent = F.pad(features, (0, 1))[:, self.flag_of] > 0.5
            numbers = numbers.masked_fill(absent, torch.nan)
        return torch.cat([numbers, features[:, features.shape[1] - self.categories :]], dim=1)

    @torch.no_grad()
    def fit(self, features: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> str:
        """Grow the trees and return a line for the summary.

        Args:
            features: of the training examples [examples, numbers and categories], on any device.
            targets: classes or numbers [examples], or labels [examples, labels].
            class_weights: [classes], of the examples of each.

        Raises:
            InputError: a feature is NaN or infinite.
        """
        from src.models.tables import boosting  # imports scikit-learn, which takes seconds

        require_finite(features)
        cells = self._cells(features.to(self.threshold.device)).cpu().double().numpy()
        known = {column: np.unique(cells[:, column]).astype(np.int64) for column in self.sizes}
        for column, codes in known.items():
            cells[:, column] = np.searchsorted(codes, cells[:, column])
        booster = boosting.Booster(self.boosting, cells, [*known], self.seed)
        with threadpool_limits(1 if cells.size * self.boosting.iterations < FEW else None):
            if targets.ndim == 2:
                found = booster.labels((targets > 0.5).cpu().numpy())
            elif targets.is_floating_point():
                found = booster.number(targets.double().cpu().numpy(), self.loss, self.quantiles)
            else:
                weights = None if class_weights is None else class_weights.double().cpu().numpy()
                found = booster.classes(targets.cpu().numpy(), weights, len(self.bias))
        codes = max(self.sizes.values(), default=1)
        tables = {"score_of": found.score_of, **boosting.laid_out(found.trees, self.columns, known, codes)}
        for name, table in tables.items():
            getattr(self, name).data = torch.from_numpy(table).to(self.bias.device)
        self.bias.copy_(torch.from_numpy(found.bias))
        return f"{sum(map(len, found.trees))} trees, boosted on {len(cells)} rows of {self.columns} columns"
