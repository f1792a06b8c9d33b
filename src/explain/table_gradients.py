"""Integrated gradients of the columns of a row."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from src.configs.errors import InputError
from src.explain.extra import library
from src.explain.method import INCOMPLETE, Attribution, missed
from src.explain.subject import Subject
from src.explain.tables import TableExample
from src.models.tables.linear import Linear
from src.models.tables.mlp import MLP
from src.models.tables.trees import BoostedTrees

STEPS = (32, 64, 128, 256, 512, 1024)
"""Steps of the integral; more are taken while the values miss their sum by more than `INCOMPLETE`."""


class _Scored(nn.Module):
    """Scores rows, and has the numbers pass through a layer of their own, where captum can change them."""

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        self.subject, self.numbers = subject, nn.Identity()

    @override
    def forward(self, numbers: Tensor, categories: Tensor, target: Tensor) -> Tensor:
        return self.subject.raw_score((self.numbers(numbers), categories), target)

    def layers(self) -> tuple[list[nn.Module], bool]:
        """Return the layers that see what a row is made of, and whether it is what goes into them."""
        network = self.subject.network
        if isinstance(network, Linear):
            return [network.head], True
        if isinstance(network, MLP):
            return [self.numbers, *network.embeddings], False
        if isinstance(network, BoostedTrees):
            raise InputError(
                "--method integrated-gradients: boosted trees are constant between their thresholds and have no "
                "gradient. Take --method kernel-shap."
            )
        if not self.subject.spec.categories:
            return [self.numbers], False
        raise InputError(
            f"--method integrated-gradients: how {type(network).__name__} takes in categories is not known, and a "
            "category has no gradient itself. Take --method kernel-shap."
        )


def integrated_gradients(
    subject: Subject, examples: Sequence[TableExample], targets: Sequence[int]
) -> list[Attribution]:
    """Return integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365) from each background row, averaged:
    expected gradients (Erion et al. 2021, https://doi.org/10.1038/s42256-021-00343-w), but with the whole integral.

    A path leads from the numbers and the embeddings of a background row straight to the row's own. The values of a
    column are added up. All add up to the raw score minus the mean of the background rows.

    Raises:
        InputError: a network whose categories have no embeddings that are known, or captum is not there.
    """
    captum = library("captum.attr")
    scored = _Scored(subject)
    layers, into = scored.layers()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Multiple layers provided")  # none depends on another
        gradients = captum.LayerIntegratedGradients(scored, layers)
    found: list[Attribution] = []
    for example, target in zip(examples, targets, strict=True):
        rows = example.background
        own = tuple(tensor.expand(len(rows), -1) for tensor in example.tensors)
        wanted = torch.full((len(rows),), target)
        kept = np.array([[False], [True]]).repeat(len(example), 1)
        hidden, shown = subject.scores(example, target, kept, raw=True)
        values = np.zeros(len(example))
        for steps in STEPS:
            parts: Any = gradients.attribute(
                own,
                baselines=(rows.numbers, rows.categories),
                additional_forward_args=(wanted,),
                n_steps=steps,
                method="riemann_middle",  # the bins' corners leave Gauss' points no better, and a thousand take seconds
                attribute_to_layer_input=into,
                internal_batch_size=example.at_once,
            )
            values = example.of_columns(_features(parts, subject, example))
            if missed(values, shown - hidden) <= INCOMPLETE:
                break
        found.append(Attribution(values, None, float(shown - hidden)))
    return found


def _features(parts: Sequence[Any], subject: Subject, example: TableExample) -> np.ndarray:
    """Return the mean over the background of each number, then of each category, float64 [numbers + categories].

    Args:
        parts: of the numbers and of each embedding; or of the numbers and all 0s and 1s of the categories at once.
        subject: whose categories they are.
        example: the row.
    """
    given = [part[0] if isinstance(part, tuple) else part for part in parts]
    means = [part.detach().double().mean(0).numpy() for part in given]
    if len(means) == 1 and subject.spec.categories:
        ends = np.cumsum([len(example.places.numbers), *subject.spec.categories[:-1]])
        means = np.split(means[0], ends)
    return np.concatenate([means[0], *(np.atleast_1d(part.sum()) for part in means[1:])])
