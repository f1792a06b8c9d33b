"""What experiments on tables share whose models are fitted once: a recipe for each."""

from __future__ import annotations

from experiments.bases.tables import TableData
from src import models, tasks
from src.experiment import Boosting, DataSpec, InputError, Optim


class BoostedTable(TableData):
    """The recipe of the boosted trees: fitted, then an epoch that changes nothing and measures them on the training."""

    max_epochs = 1
    batch_size = 1024
    optim = Optim(lr=0.0, weight_decay=0.0, schedule="constant")

    boosting: Boosting = Boosting()
    """How the trees grow."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.optim.l1:
            raise InputError("--optim.l1: trees have no weights to shrink. Choose --boosting.l2.")

    def task(self, spec: DataSpec) -> tasks.Task:
        objective = self.objective(spec)
        model = self.network(spec, objective.num_outputs)
        cached = "start" if self.weights == "none" else "no"  # trees of a file stay
        return tasks.Task(model, objective, tasks.inputs.TableInput(), self.optim, cached_features=cached)

    def network(self, spec: DataSpec, num_outputs: int) -> models.BoostedTrees:
        return models.BoostedTrees(spec, num_outputs, self.boosting, seed=self.seed, weights=self.weights)
