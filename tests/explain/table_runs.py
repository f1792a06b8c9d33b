"""Tables, and networks on them that are not trained or in closed form, for the tests of explanations."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from experiments.tables import TableClassification, TableLinear, TableMultiLabel, TableRegression
from src.datamodules import Table
from src.experiment import Columns, Experiment, Perceptron
from src.explain.subject import Subject
from src.explain.tables import Background, TableExample, background, read
from src.tasks import Task
from src.training.build import build_parts
from src.training.trainer import quieten

MLP = Perceptron(width=16, depth=1, bins=4, bins_width=4)
FIELDS: dict[str, Any] = {"accelerator": "cpu", "precision": "32-true"}


class Built(NamedTuple):
    """A network and its data."""

    datamodule: Table
    subject: Subject
    background: Background

    def examples(self, inputs: Any) -> list[TableExample]:
        return read(self.datamodule, self.subject.spec, inputs, self.background)[0]


def built(experiment: Experiment, *, backgrounds: int = 8) -> Built:
    """Return an experiment's data, and its network with random weights that are not small."""
    quieten()
    datamodule, task = build_parts(experiment)
    assert isinstance(datamodule, Table)
    return Built(datamodule, Subject(shaken(task)), background(datamodule, count=backgrounds))


def shaken(task: Task) -> Task:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in task.model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return task


def number(houses: Path, *, linear: bool = False, ignored: tuple[str, ...] = ("size",)) -> Built:
    """The price of a house from numbers with missing ones, a date and categories."""
    columns, fields = Columns(ignored=ignored), {"data_dir": houses, "target": "price", **FIELDS}
    return built(
        TableLinear(columns=columns, **fields) if linear else TableRegression(columns=columns, mlp=MLP, **fields)
    )


def one_class(houses: Path, target: str = "size") -> Built:
    """Whether a house is large, of two classes; or its town, of three."""
    return built(TableClassification(data_dir=houses, target=target, mlp=MLP, **FIELDS))


def labels(tagged: Path) -> Built:
    return built(TableMultiLabel(data_dir=tagged, target=("extras",), mlp=MLP, **FIELDS))


def wide(path: Path, *, columns: int = 12, rows: int = 200) -> Path:
    """Write a table of so many numbers, one that is the same but in the last three rows, and a target."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(rows, columns)).round(4), columns=[f"x{i}" for i in range(columns)])
    frame["seldom"] = np.where(np.arange(rows) >= rows - 3, 2.5, 1.5)
    frame["target"] = (frame.sum(axis=1) + frame["x0"] * frame["x1"]).round(4)
    frame.to_csv(path, index=False)
    return path


def linear_values(linear: Built, example: Any) -> np.ndarray:
    """Return what each column must have: its weights times the distance from the mean of the background."""
    network: Any = linear.subject.network
    numbers, categories = (tensor.double() for tensor in example.tensors)
    weights = network.head.linear.weight[0].double()
    count = numbers.shape[1]
    of_numbers = weights[:count] * (numbers[0] - linear.background.numbers.double().mean(0))
    found = [float(value) for value in of_numbers]
    for place, size in enumerate(linear.subject.spec.categories):
        own = weights[count : count + size]
        found.append(float(own[int(categories[0, place])] - own[linear.background.categories[:, place]].mean()))
        count += size
    return linear.subject.spec.target.std * example.of_columns(np.array(found))
