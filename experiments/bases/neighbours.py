"""The recipe of the nearest neighbours, on rows of a table and on a frozen network's features of images and texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from experiments.bases.backbones import FineTuned
from experiments.bases.tables import TableData
from experiments.texts import BertTexts
from src import models, tasks
from src.experiment import DataSpec, Experiment, Neighbours, Optim, Search, choice, log

if TYPE_CHECKING:
    from torch import nn

STILL = Optim(lr=0.0, weight_decay=0.0, schedule="constant")
"""Changes nothing."""


class Nearest(Experiment):
    """The training examples are kept, then an epoch changes nothing. In it each example votes on itself, so that
    metrics of the training tell nothing."""

    cached_features: ClassVar[Literal["no", "start", "probe"]] = "probe"

    max_epochs = 1
    patience = None

    search = Search(
        {"neighbours.count": log(2, 50), "neighbours.distance": choice("euclidean", "cosine")},
        trials=15,
    )

    neighbours: Neighbours = Neighbours()
    """Which training examples vote."""

    def voting(self, network: nn.Module, objective: tasks.Objective, spec: DataSpec) -> models.NearestNeighbours:
        """Put neighbours in the place of a network's head."""
        return models.NearestNeighbours(network, objective.num_outputs, spec.target.kind, self.neighbours, self.seed)


class NearestRows(Nearest, TableData):
    """Rows of a table: numbers as they are scaled, each value of a category by itself."""

    cached_features = "start"

    batch_size = 256
    optim = STILL

    def task(self, spec: DataSpec) -> tasks.Task:
        objective = self.objective(spec)
        network = models.Linear(spec, objective.num_outputs, weights=self.weights)
        model = self.voting(network, objective, spec)
        return tasks.Task(model, objective, tasks.inputs.TableInput(), self.optim, cached_features=self.cached_features)


class NearestImages(Nearest, FineTuned):
    """Features of a frozen backbone."""

    frozen = 1.0
    optim = STILL
    neighbours = Neighbours(distance="cosine")

    def task(self, spec: DataSpec) -> tasks.Task:
        objective = self.objective(spec)
        return self.image_task(self.voting(self.network(objective.num_outputs), objective, spec), objective, spec)


class NearestTexts(Nearest, BertTexts):
    """Features of a frozen encoder."""

    frozen = -1
    encoder = "sentence-transformers/all-MiniLM-L6-v2"
    validations = 1
    grad_clip = None
    optim = STILL
    neighbours = Neighbours(distance="cosine")

    def task(self, spec: DataSpec) -> tasks.Task:
        objective = self.objective(spec)
        return self.trained(self.voting(self.network(spec, objective.num_outputs), objective, spec), objective)
