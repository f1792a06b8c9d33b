"""Integrated gradients of texts, along a line through the vectors of their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from src.configs.errors import InputError
from src.explain.line import along_line
from src.explain.method import Attribution
from src.explain.subject import Subject
from src.explain.texts import TextExample


def integrated_gradients(
    subject: Subject, examples: Sequence[TextExample], targets: Sequence[int]
) -> list[Attribution]:
    """Integrate the gradients of the raw score along the line from hidden words to the text (Sundararajan et al. 2017).

    The line runs through the tokens' vectors (arXiv 1703.01365). A word has the sum over its tokens and their
    dimensions. The values add up to the raw score less that of the text with all words hidden.

    Raises:
        InputError: captum is not installed, or the network looks up no vectors.
    """
    return [_integrated(subject, *pair) for pair in zip(examples, targets, strict=True)]


def _integrated(subject: Subject, example: TextExample, target: int) -> Attribution:
    tokens, *rest = example.tensors
    layer = embedding_of(subject.network, example.tensors)
    with torch.no_grad():
        start, end = layer(example.hidden(np.zeros((1, len(example)), bool))[0]), layer(tokens)

    def score(vectors: Tensor) -> Tensor:
        """Vectors of the tokens, [points, tokens, width] -> raw score [points]."""
        hook = layer.register_forward_hook(lambda *_: vectors)
        try:
            repeated = tuple(tensor.expand(len(vectors), *tensor.shape[1:]) for tensor in (tokens, *rest))
            return subject.raw_score(repeated, torch.full((len(vectors),), target))
        finally:
            hook.remove()

    values, difference = along_line(score, start, end)
    return Attribution(example.of_words(values), sums_to=difference)


def embedding_of(network: nn.Module, tensors: tuple[Tensor, ...]) -> nn.Embedding:
    """Return the layer of a network that looks up the vectors of its tokens.

    Raises:
        InputError: there is none.
    """
    found = list[nn.Embedding]()

    def look(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs and isinstance(inputs[0], Tensor) and torch.equal(inputs[0], tensors[0]):
            found.append(cast(nn.Embedding, module))

    hooks = [m.register_forward_pre_hook(look) for m in network.modules() if isinstance(m, nn.Embedding)]
    try:
        with torch.no_grad():
            network(*tensors)
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise InputError(
            f"--method integrated-gradients: {type(network).__name__} has no nn.Embedding of its tokens. Choose "
            "occlusion or lime."
        )
    return found[0]
