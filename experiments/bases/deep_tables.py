"""The recipe of the multilayer perceptrons on tables, and what a search varies of it."""

from __future__ import annotations

from experiments.bases.tables import TableData
from src import models, tasks
from src.experiment import DataSpec, Optim, Perceptron, Search, TablePrep, choice, log, uniform


class DeepTable(TableData):
    """The recipe of the multilayer perceptrons."""

    max_epochs = 40
    batch_size = 128
    grad_clip = 1.0
    prep = TablePrep(clip=0.005)
    optim = Optim(lr=3e-3, weight_decay=0.1, warmup=0.05)

    search = Search(
        {
            "optim.lr": log(1e-3, 1e-2),
            "optim.weight_decay": log(1e-3, 0.5),
            "mlp.width": choice(128, 256, 512),
            "mlp.depth": choice(1, 2, 3),
            "mlp.dropout": uniform(0.0, 0.4),
        },
        trials=40,
    )

    mlp: Perceptron = Perceptron(bins=16)
    """Layers, widths and how numbers and categories are taken in."""

    def bins(self) -> int:
        return self.mlp.bins

    def task(self, spec: DataSpec) -> tasks.Task:
        objective = self.objective(spec)
        model = models.MLP(spec, objective.num_outputs, self.mlp, weights=self.weights)
        return tasks.Task(model, objective, tasks.inputs.TableInput(), self.optim)
