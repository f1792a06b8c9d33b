"""A multilayer perceptron for rows of numbers and categories."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from rtdl_num_embeddings import PiecewiseLinearEmbeddings
from torch import Tensor, nn

from src.configs.spec import DataSpec
from src.configs.table import Perceptron
from src.models.heads import Head
from src.models.state_dicts import load_file


class MLP(nn.Module):
    """Embedded categories and numbers through hidden layers, and a linear head.

    Args:
        spec: the numbers, categories and bins of a row.
        num_outputs: classes, or numbers that are predicted.
        shape: layers, widths and dropout.
        weights: 'none' (random) or a file with this network's state dict, such as a run's checkpoint.
    """

    def __init__(self, spec: DataSpec, num_outputs: int, shape: Perceptron, *, weights: str = "none") -> None:
        super().__init__()
        widths = [min(shape.category_width, size) for size in spec.categories]
        self.embeddings = nn.ModuleList(
            nn.Embedding(size, width) for size, width in zip(spec.categories, widths, strict=True)
        )
        for embedding in self.embeddings:
            assert isinstance(embedding, nn.Embedding)
            nn.init.normal_(embedding.weight, std=embedding.embedding_dim**-0.5)
            nn.init.zeros_(embedding.weight[0])  # what training never sees stays neutral
        width = sum(widths) + spec.numbers
        self.piecewise: nn.Module | None = None
        if spec.bins:
            edges = [torch.tensor(edges) for edges in spec.bins]
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".*has just two bin edges")  # a column of 0 and 1 has no more
                self.piecewise = PiecewiseLinearEmbeddings(edges, shape.bins_width, activation=False, version="B")
            width = sum(widths) + spec.numbers * shape.bins_width
        self.stem = nn.Linear(width, shape.width) if shape.residual else nn.Identity()
        self.layers = nn.ModuleList()
        for number in range(shape.depth):
            if shape.residual:
                layer = [nn.LayerNorm(shape.width), nn.Linear(shape.width, 2 * shape.width), nn.ReLU()]
                layer += [nn.Dropout(shape.dropout), nn.Linear(2 * shape.width, shape.width)]
            else:
                layer = [nn.Linear(shape.width if number else width, shape.width), nn.ReLU(), nn.Dropout(shape.dropout)]
            self.layers.append(nn.Sequential(*layer))
        self.residual = shape.residual
        self.norm = nn.LayerNorm(shape.width) if shape.residual else nn.Identity()
        self.head = Head(shape.width, num_outputs)
        self.weights_source = "none (random)" if weights == "none" else load_file(self, Path(weights), prefix="model.")

    def features(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Numbers [batch, n] and categories [batch, c] -> [batch, width]."""
        described = numbers if self.piecewise is None else self.piecewise(numbers).flatten(1)
        if torch.compiler.is_exporting() and len(self.embeddings):
            embedded = [self._looked_up_at_once(categories)]
        else:
            embedded = [embedding(categories[:, i]) for i, embedding in enumerate(self.embeddings)]
        states = self.stem(torch.cat([described, *embedded], dim=1))
        for layer in self.layers:
            states = states + layer(states) if self.residual else layer(states)
        return self.norm(states)

    def _looked_up_at_once(self, categories: Tensor) -> Tensor:
        """Return all embeddings of categories [batch, c] side by side, by one look-up.

        In an exported graph a look-up for each would take longer to start than to do.
        """
        weights = [embedding.weight for embedding in self.embeddings if isinstance(embedding, nn.Embedding)]
        starts = np.cumsum([0, *(weight.numel() for weight in weights)])
        of = [(column, place) for column, weight in enumerate(weights) for place in range(weight.shape[1])]
        columns = torch.tensor([column for column, _ in of])
        widths = torch.tensor([weights[column].shape[1] for column, _ in of])
        first = torch.tensor([int(starts[column]) + place for column, place in of])
        flat = torch.cat([weight.flatten() for weight in weights])
        return flat[categories.index_select(1, columns) * widths + first]

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Numbers [batch, n] and categories [batch, c] -> [batch, num_outputs]."""
        return self.head(self.features(numbers, categories))

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return the parameters by depth, from the input to the head."""
        head = {id(p) for p in self.head.parameters()}
        return [[p for p in self.parameters() if id(p) not in head], list(self.head.parameters())]
