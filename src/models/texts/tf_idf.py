"""TF-IDF and a linear layer, on token ids."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.configs.errors import InputError
from src.configs.spec import DataSpec
from src.configs.text import Terms
from src.models.state_dicts import load_file, make_room


class TfIdf(nn.Module):
    """A weight for each word and each pair of neighbouring words, which counts as TF-IDF has it (Salton & Buckley 1988,
    https://doi.org/10.1016/0306-4573(88)90021-0). scikit-learn fits it: `head.fit`.

    Args:
        spec: the tokens, and the most of a text.
        num_outputs: numbers for each text.
        terms: what is counted.
        weights: 'none', or a file with this network's state dict, such as a run's checkpoint.
    """

    def __init__(self, spec: DataSpec, num_outputs: int, terms: Terms, *, weights: str = "none") -> None:
        super().__init__()
        self.longest = spec.input_shape[0]
        self.head = WeightedTerms(spec, num_outputs, terms)
        start = "none (fitted by scikit-learn)"
        self.weights_source = start if weights == "none" else load_file(self, Path(weights), prefix="model.")

    def features(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Tokens [batch, length] and mask [batch, length] -> token ids [batch, longest], -1 behind a text's end."""
        ids = tokens.masked_fill(~mask, -1)
        return F.pad(ids, (0, self.longest - ids.shape[1]), value=-1).float()

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Tokens and mask, as for `features` -> [batch, num_outputs]."""
        return self.head(tokens.masked_fill(~mask, -1))

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return the parameters, a single group."""
        return [list(self.parameters())]


class WeightedTerms(nn.Module):
    """Counts the terms of texts, and adds up their weights.

    A term that is there n times counts (1 + log n) idf, and all of a text are divided by their norm, as scikit-learn's
    TfidfVectorizer with `sublinear_tf` does. Terms are the tokens, then the pairs of tokens.

    Args:
        spec, num_outputs, terms: see `TfIdf`.

    Attributes:
        weight: [terms, num_outputs].
        bias: [num_outputs].
        idf: log((1 + texts) / (1 + texts with the term)) + 1 of the training, 0 for terms that do not count [terms].
        pairs: first token * tokens + second token, ascending [pairs].
    """

    idf: Tensor
    pairs: Tensor

    def __init__(self, spec: DataSpec, num_outputs: int, terms: Terms) -> None:
        super().__init__()
        self.tokens, self.unknown, self.terms = spec.vocab_size, spec.unknown_id, terms
        self.weight = nn.Parameter(torch.zeros(self.tokens, num_outputs))
        self.bias = nn.Parameter(torch.zeros(num_outputs))
        self.register_buffer("idf", torch.zeros(self.tokens))
        self.register_buffer("pairs", torch.zeros(0, dtype=torch.int64))
        self.register_load_state_dict_pre_hook(functools.partial(make_room, names=("weight", "idf", "pairs")))

    def forward(self, features: Tensor) -> Tensor:
        """Token ids [batch, length], -1 behind a text's end -> [batch, num_outputs]."""
        ids = features.long()
        terms, counts = self._words(ids)
        if self.pairs.numel():
            of_pairs = self._pairs(ids)
            terms, counts = torch.cat([terms, of_pairs[0]], 1), torch.cat([counts, of_pairs[1]], 1)
        idf = self.idf.index_select(0, terms.flatten()).view_as(counts)
        value = (1 + counts.clamp_min(1).log()) * idf * (counts > 0)
        share = value / counts.clamp_min(1)  # of each time that the term is there
        norm = (value * share).sum(1, keepdim=True).clamp_min(1e-12).sqrt()
        weight = self.weight.index_select(0, terms.flatten()).view(*terms.shape, len(self.bias))
        return ((share / norm)[:, :, None] * weight).sum(1) + self.bias

    def _words(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the terms of the words of a text, and how often each is there, 0 where none is [batch, length]."""
        known = (ids >= 0) & (ids != self.unknown)
        return torch.where(known, ids, 0), counted(ids, known)

    def _pairs(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same of the pairs of words [batch, length - 1]."""
        first, second = ids[:, :-1], ids[:, 1:]
        keys = first * self.tokens + second
        place, count = torch.zeros_like(keys), self.pairs.shape[0]
        for bit in reversed(range(count.bit_length())):  # a search by halves: torch's cannot be exported
            probe = place + (1 << bit)
            there = self.pairs.index_select(0, probe.clamp(max=count - 1).flatten()).view_as(keys)
            place = place + (1 << bit) * ((probe < count) & (there <= keys)).long()
        found = self.pairs.index_select(0, place.flatten()).view_as(keys) == keys
        known = found & (first >= 0) & (second >= 0)
        return torch.where(known, self.tokens + place, 0), counted(keys, known)

    @torch.no_grad()
    def fit(self, features: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> str:
        """Choose the terms, set their weights and return a line for the summary.

        Args:
            features: token ids of the training texts [texts, longest], -1 behind a text's end.
            targets: classes or numbers [texts], or labels [texts, labels].
            class_weights: [classes], of the texts of each.

        Raises:
            InputError: no term is in as many texts as it has to be.
        """
        from src.models.texts import terms  # imports scikit-learn, which takes seconds

        ids = features.cpu().long().numpy()
        counts, pairs = terms.count(ids, self.tokens, self.unknown, self.terms)
        weighted, idf = terms.tf_idf(counts, self.terms.least)
        if not idf.any():
            raise InputError(f"--terms.least {self.terms.least}: no word is in so many of the training texts.")
        if targets.ndim == 2:
            weight, bias, how = terms.labels(weighted, (targets > 0.5).cpu().numpy(), self.terms.strength)
        elif targets.is_floating_point():
            weight, bias, how = terms.number(weighted, targets.cpu().numpy())
        else:
            weights = None if class_weights is None else class_weights.cpu().numpy()
            of = targets.cpu().numpy(), weights, len(self.bias)
            weight, bias, how = terms.classes(weighted, *of, self.terms.strength)
        for name, table in {"weight": weight, "idf": idf, "pairs": pairs}.items():
            tensor: Any = getattr(self, name)
            tensor.data = torch.from_numpy(np.ascontiguousarray(table)).to(tensor)
        self.bias.copy_(torch.from_numpy(bias))
        return f"{np.count_nonzero(idf)} terms of {len(ids)} texts, {how}"


def counted(terms: Tensor, there: Tensor) -> Tensor:
    """Return how often each term of a text is in it, float32 [batch, length]; 0 where `there` is not."""
    terms = torch.where(there, terms, -1)
    return (terms[:, :, None] == terms[:, None, :]).float().sum(2) * there
