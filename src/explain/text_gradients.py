"""Integrated gradients of texts, along a line through the vectors of their tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from src.configs.errors import InputError
from src.explain.method import Attribution
from src.explain.subject import AT_ONCE, Subject
from src.explain.texts import TextExample

STEPS, STEPS_OF_HALVES = 32, 8
"""Gradients taken on the whole line, and on each piece of it after it was halved."""
MOST_STEPS = 4096
"""After so many no piece is halved again."""
MISS = 0.01
"""Share of the score's difference by which the sum of the values may miss it."""


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


def along_line(score: Callable[[Tensor], Tensor], start: Tensor, end: Tensor) -> tuple[np.ndarray, float]:
    """Return the integrated gradients of each token, float64 [tokens], and the score's difference.

    captum's steps of even width need thousands where the gradient jumps, as at a maximum over the text. So each piece
    of the line whose sum misses the score's difference over that piece is halved, until the whole adds up.

    Args:
        score: vectors [points, tokens, width] -> [points].
        start: vectors of the baseline, [1, tokens, width].
        end: those of the text.
    """
    try:
        from captum.attr import IntegratedGradients
    except ImportError as error:
        raise InputError("--method integrated-gradients: needs captum: pip install -e '.[explain]'.") from error

    captum = IntegratedGradients(score)

    def measured(first: Tensor, last: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Ends of pieces, 0 to 1 each -> values [pieces, tokens], and by how much their sums miss [pieces]."""
        ends: list[Tensor] = [start + place[:, None, None] * (end - start) for place in (last, first)]
        found: Any = captum.attribute(*ends, n_steps=steps, internal_batch_size=AT_ONCE)
        values = found.detach().double().sum(-1)
        with torch.no_grad():
            return values, values.sum(1) - (score(ends[0]).double() - score(ends[1]).double())

    with torch.no_grad():
        difference = float(score(end).double() - score(start).double())
    first, last, steps = torch.zeros(1), torch.ones(1), STEPS
    values, missed = measured(first, last, steps)
    while abs(float(missed.sum())) > MISS * abs(difference) and steps < MOST_STEPS:
        bad = missed.abs() >= missed.abs().mean()
        middle = (first[bad] + last[bad]) / 2
        halves = torch.cat([first[bad], middle]), torch.cat([middle, last[bad]])
        steps += STEPS_OF_HALVES * len(halves[0])
        renewed = zip((first, last, values, missed), (*halves, *measured(*halves, STEPS_OF_HALVES)), strict=True)
        first, last, values, missed = (torch.cat([old[~bad], new]) for old, new in renewed)
    return values.sum(0).numpy(), difference


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
