"""What experiments on tables share whose models are fitted once: a recipe for each."""

from __future__ import annotations

from experiments.bases.tables import TableData
from src import models, tasks
from src.experiment import Boosting, DataSpec, InputError, Optim, Search, log, uniform


class SolvedTable(TableData):
    """The recipe of the linear models: solved, then an epoch of steps that change little."""

    max_epochs = 1
    batch_size = 128
    optim = Optim(lr=1e-5, weight_decay=0.0)

    solve: bool = True
    """Start from the solution in closed form, or by L-BFGS; else from zeros."""

    def task(self, spec: DataSpec) -> tasks.Task:
        objective = self.objective(spec)
        model = models.Linear(spec, objective.num_outputs, weights=self.weights)
        cached = "start" if self.solve else "no"
        return tasks.Task(model, objective, tasks.inputs.TableInput(), self.optim, cached_features=cached)


class BoostedTable(TableData):
    """The recipe of the boosted trees: fitted, then an epoch that changes nothing and measures them on the training."""

    max_epochs = 1
    batch_size = 1024
    optim = Optim(lr=0.0, weight_decay=0.0, schedule="constant")

    search = Search(
        {
            "boosting.learning_rate": log(0.02, 0.3),
            "boosting.iterations": log(50, 500),
            "boosting.leaves": log(7, 127),
            "boosting.min_leaf": log(2, 60),
            "boosting.l2": uniform(0.0, 3.0),
        },
        trials=60,
    )

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
