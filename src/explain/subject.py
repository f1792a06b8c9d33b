"""The network that is explained, and the number of its answer that is asked about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn

from src.configs.errors import InputError, did_you_mean
from src.explain.example import AT_ONCE as AT_ONCE  # for the methods, which give the network batches themselves
from src.explain.example import Example
from src.explain.layers import Layer, last_maps
from src.tasks import Task

if TYPE_CHECKING:
    from src.configs.spec import DataSpec


class Subject:
    """A run's network on the CPU, in evaluation mode and without test-time views.

    A target is the position of a class or label; 0 for a number.

    Args:
        task: with the weights of the run.
        temperature: that the run found on its validation data; probabilities are those of its predictions.
    """

    def __init__(self, task: Task, temperature: float = 1.0) -> None:
        self.task, self.temperature = task.eval(), temperature
        self.task.requires_grad_(False)
        self._maps: Layer | None = None

    @property
    def network(self) -> nn.Module:
        return self.task.model

    @property
    def spec(self) -> DataSpec:
        return self.task.spec

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes or labels; () for a number."""
        return self.spec.classes

    def target_named(self, name: str) -> int:
        """Return the position of a class or label; raise an InputError where there is none of that name."""
        if not self.classes:
            raise InputError(f"--class {name}: the run predicts a number. Leave it out.")
        if name not in self.classes:
            raise InputError(
                f"--class {name}: no such class.{did_you_mean(name, [*self.classes])} There: {', '.join(self.classes)}."
            )
        return self.classes.index(name)

    def maps(self, tensors: tuple[Tensor, ...]) -> Layer:
        """Return the layer whose maps Grad-CAM weighs; see `last_maps`."""
        if self._maps is None:
            self._maps = last_maps(self.network, tensors)
        return self._maps

    def outputs(self, tensors: tuple[Tensor, ...]) -> Tensor:
        """Return the network's outputs, float32 [examples, num_outputs]."""
        outputs = cast(Tensor, self.network(*tensors)).float()
        return outputs[:, None] if outputs.ndim == 1 else outputs

    def raw_score(self, tensors: tuple[Tensor, ...], target: Tensor) -> Tensor:
        """Return what gradients are taken of [examples]: the log-odds of `score`, or the number in the target's scale.

        Of one class the log-odds are its logit less the logarithm of the summed exponentials of all others: a logit
        alone means nothing, for adding the same to all of them changes no probability.

        Args:
            tensors: as the network takes them.
            target: int64 [examples].
        """
        outputs = self.outputs(tensors)
        if self.classes:
            outputs = outputs / self.temperature
            logit = outputs.gather(1, target[:, None])[:, 0]
            if self.spec.target.kind == "multi_label":
                return logit
            return logit - outputs.scatter(1, target[:, None], -torch.inf).logsumexp(1)
        return outputs.sort(dim=1).values[:, 1] if outputs.shape[1] == 3 else outputs[:, 0]  # three are quantiles

    def score(self, tensors: tuple[Tensor, ...], target: Tensor) -> Tensor:
        """Return the answer asked about [examples]: the probability of the target, or the number in its own unit."""
        outputs = self.outputs(tensors)
        predicted = self.task.objective.predictions(outputs / self.temperature if self.classes else outputs)
        return predicted["prob"].gather(1, target[:, None])[:, 0] if self.classes else predicted["prediction"]

    @torch.no_grad()
    def likeliest(self, examples: Sequence[Example]) -> list[int]:
        """Return the target of each example that is asked about unless one is named: the likeliest class, or 0."""
        if not self.classes:
            return [0] * len(examples)
        return [int(self.outputs(example.tensors)[0].argmax()) for example in examples]

    @torch.no_grad()
    def answer(self, example: Example, target: int) -> float:
        """Return the score of an example as it is; see `score`."""
        return self.score(example.tensors, torch.tensor([target])).item()

    @torch.no_grad()
    def scores(self, example: Example, target: int, kept: np.ndarray, *, raw: bool = False) -> np.ndarray:
        """Return the score of an example with parts hidden, float64 [masks]; see `score`, or with `raw` `raw_score`.

        Args:
            example: that is explained.
            target: that is asked about.
            kept: bool [masks, parts], True where a part stays.
            raw: in the network's own scale.
        """
        step = max(1, example.at_once // example.backgrounds)
        found: list[np.ndarray] = []
        for start in range(0, len(kept), step):
            masks = kept[start : start + step]
            tensors = example.hidden(masks)
            targets = torch.full((len(tensors[0]),), target)
            scores = (self.raw_score if raw else self.score)(tensors, targets)
            found.append(scores.double().numpy().reshape(len(masks), -1).mean(1))
        return np.concatenate(found)
