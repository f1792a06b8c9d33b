"""A recurrent network for texts, without packed sequences, so that it exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.configs.errors import InputError
from src.configs.spec import DataSpec
from src.configs.text import Recurrent
from src.models.heads import Head
from src.models.state_dicts import load_file


class LSTM(nn.Module):
    """Embedding, LSTM layers (Hochreiter & Schmidhuber 1997; Gers et al. 2000), pooling over the text, and a head.

    Args:
        spec: of the data: its tokens, the unknown one that hidden words become, and `vectors`, an array file
            [vocab_size, width] to start the embedding from, in which rows of NaN stay random.
        num_outputs: numbers for each text.
        width: numbers of a token's vector.
        shape: layers, pooling and dropouts.
        weights: 'none' (random) or a file with this network's state dict, such as a run's checkpoint.

    Padding never changes a result: a text is read backwards from its own last token, and pooled over its own tokens.
    """

    def __init__(
        self, spec: DataSpec, num_outputs: int, width: int, shape: Recurrent, *, weights: str = "none"
    ) -> None:
        super().__init__()
        self.shape, self.unknown_id = shape, spec.unknown_id
        self.embedding = nn.Embedding(spec.vocab_size, width)
        nn.init.normal_(self.embedding.weight, std=0.1)
        if spec.vectors:
            start_from_features(self.embedding, spec.vectors)
        self.directions = 2 if shape.bidirectional else 1
        states = shape.hidden * self.directions
        self.readers = nn.ModuleList(
            nn.LSTM(inputs, shape.hidden, batch_first=True)
            for inputs in [width, *[states] * (shape.layers - 1)]
            for _ in range(self.directions)
        )
        self.attention = nn.Linear(states, 1, bias=False) if "attention" in shape.pooling else None
        self.head = Head(states * len(shape.pooling), num_outputs, shape.dropout)
        self.weights_source = "none (random)" if weights == "none" else load_file(self, Path(weights), prefix="model.")

    def features(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Tokens [batch, length] and mask [batch, length], True where a token is -> [batch, states * poolings]."""
        if self.training and self.shape.word_dropout:
            dropped = torch.rand(tokens.shape, device=tokens.device) < self.shape.word_dropout
            tokens = tokens.masked_fill(dropped, self.unknown_id)
        states = self.embedding(tokens)
        if self.training and self.shape.embedding_dropout:
            states = states * F.dropout(torch.ones_like(states[:, :1]), self.shape.embedding_dropout)
        last = mask.long().sum(1, keepdim=True) - 1
        place = mask.long().cumsum(1) - 1
        # Padding stays where it is: no row is taken twice, so a GPU adds gradients in one order.
        backwards = torch.where(mask, last - place, torch.arange(mask.shape[1], device=mask.device))
        read = [states]  # of each direction, in the order of its reading
        for layer in self.layers():
            states = side_by_side(read, backwards)
            read = [self._read(reader, states) for reader in layer[:1]]
            read += [self._read(reader, reordered(states, backwards)) for reader in layer[1:]]
        pools = [self._pool(kind, read, mask, last, backwards) for kind in self.shape.pooling]
        return torch.cat(pools, -1)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Tokens and mask, as for `features` -> [batch, num_outputs]."""
        return self.head(self.features(tokens, mask))

    def layers(self) -> list[list[nn.LSTM]]:
        """Return the reader of each layer, forwards and, if there is one, backwards."""
        readers: Any = list(self.readers)
        return [readers[i : i + self.directions] for i in range(0, len(readers), self.directions)]

    def _read(self, reader: nn.LSTM, states: Tensor) -> Tensor:
        """Return the reader's states [batch, length, hidden] after each of the states that it is given."""
        device = states.device.type
        if states.dtype == torch.float32 and torch.is_autocast_enabled(device):
            # Autocast casts after torch has chosen oneDNN, which has no bfloat16 on a CPU without AVX-512.
            states = states.to(torch.get_autocast_dtype(device))
        if not (self.training and self.shape.recurrent_dropout):
            return reader(states)[0]
        start = states.new_zeros(1, len(states), reader.hidden_size)
        w_ih, w_hh, b_ih, b_hh = reader.all_weights[0]
        dropped = [w_ih, F.dropout(w_hh, self.shape.recurrent_dropout), b_ih, b_hh]
        return torch.lstm(states, (start, start), dropped, True, 1, 0.0, True, False, True)[0]

    def _pool(self, kind: str, read: list[Tensor], mask: Tensor, last: Tensor, backwards: Tensor) -> Tensor:
        """What the directions have read, [batch, length, hidden] each -> [batch, states], over a text's own tokens."""
        there = mask[..., None]
        if kind == "attention":  # looks at a token's states in both directions; the others at each direction by itself
            assert self.attention is not None
            states = side_by_side(read, backwards).to(self.attention.weight.dtype)
            weights = self.attention(states).masked_fill(~there, -torch.inf).softmax(1)
            return (weights * states).sum(1)
        if kind == "mean":
            pools = [(states * there).sum(1, dtype=torch.float32) / (last + 1) for states in read]
        elif kind == "max":  # amax's backward pass is far slower
            pools = [states.masked_fill(~there, -torch.inf).max(1)[0] for states in read]
        else:
            pools = [states.gather(1, last[..., None].expand(-1, -1, states.shape[-1]))[:, 0] for states in read]
        return torch.cat(pools, -1).float()

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return the parameters by depth: embedding, layers, and the pooling and head with the uppermost layer."""
        groups = [[parameter for reader in layer for parameter in reader.parameters()] for layer in self.layers()]
        if self.attention is not None:
            groups[-1] += self.attention.parameters()
        groups[-1] += self.head.parameters()
        return [list(self.embedding.parameters()), *groups]


def reordered(states: Tensor, order: Tensor) -> Tensor:
    """States [batch, length, n] in another order [batch, length] of their tokens."""
    batch, length = order.shape  # of `states`, an exported graph would keep the length that it was traced with
    rows = torch.arange(batch, device=order.device)[:, None] * length + order
    return states.flatten(0, 1).index_select(0, rows.flatten()).view(batch, length, -1)  # gather is a quarter as fast


def side_by_side(read: list[Tensor], backwards: Tensor) -> Tensor:
    """What one or both directions have read -> [batch, length, states], by token."""
    return torch.cat([read[0], *(reordered(states, backwards) for states in read[1:])], -1)


@torch.no_grad()
def start_from_features(embedding: nn.Embedding, vectors: str) -> None:
    """Copy the vectors that there are into an embedding.

    Raises:
        InputError: they are of another width.
    """
    found = torch.from_numpy(np.load(vectors, allow_pickle=False))
    if found.shape != embedding.weight.shape:
        raise InputError(
            f"--vocabulary.width {embedding.embedding_dim}: the vectors have {found.shape[1]} numbers each."
        )
    embedding.weight.copy_(torch.where(found.isnan(), embedding.weight, found))
