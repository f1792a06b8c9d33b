"""What all experiments on texts share: the data, and the column to predict."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar

from src import datamodules, tasks
from src.experiment import ClassificationExperiment, Csv, Experiment, Optim, TargetKind, TextPrep, Vocabulary

if TYPE_CHECKING:
    from torch import nn

Table = TypeVar("Table", bound="datamodules.TextTable")


class TextData(Experiment):
    """The data and the training. A subclass adds what is predicted, and a model with its tokens."""

    predicts: ClassVar[TargetKind]
    cached_features: ClassVar[Literal["no", "start", "probe"]] = "no"

    target_flag: ClassVar[str] = "--target"
    """Flag that names the column to predict."""

    grad_clip = 1.0

    text_column: str = "text"
    """Column of the texts."""
    csv: Csv = Csv()
    """How the table's cells are written, where that is not to be found out."""
    target_kind: TargetKind | None = None
    """How to read the target column where it could be read as several kinds."""
    prep: TextPrep = TextPrep()
    """How texts are cleaned, cut and put into batches."""
    labelled: int | None = None
    """Keep only so many examples a class, a quarter of them for validation; drawn with the seed. Single labels only."""
    optim: Optim = Optim()
    """Optimiser and schedule."""

    def check(self) -> None:
        super().check()
        if self.data_dir is not None:
            wanted = {"--text-column": [self.text_column], self.target_flag: [self.target_column()]}
            datamodules.require_columns(self.data_dir, self.csv, wanted)

    def table(self, kind: type[Table]) -> Table:
        """Build a data module of texts with the experiment's fields."""
        return kind(
            self.data_dir,
            source=self.source,
            columns=(self.text_column, self.target_column()),
            csv=self.csv,
            predicts=self.predicts,
            target_kind=self.target_kind,
            vocabulary=self.tokens(),
            prep=self.prep,
            labelled=self.labelled,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            seed=self.seed,
        )

    def target_column(self) -> str:
        """Return the column to predict."""
        raise NotImplementedError

    def tokens(self) -> Vocabulary:
        """Return the vocabulary that the model is for."""
        raise NotImplementedError

    def trained(self, network: nn.Module, objective: tasks.Objective) -> tasks.Task:
        """Build the task with the experiment's fields."""
        texts = tasks.inputs.TextInput()
        return tasks.Task(network, objective, texts, self.optim, cached_features=self.cached_features)


class LabelledTexts(ClassificationExperiment, TextData):
    """One label a text."""

    target_flag = "--label-column"
    monitor = "val/acc"
    mode = "max"

    label_column: str = "label"
    """Column of the labels, words or numbers."""
    label_smoothing = 0.1

    def datamodule(self) -> datamodules.TextTable:
        return self.table(datamodules.TextTable)

    def target_column(self) -> str:
        return self.label_column


class TargetTexts(TextData):
    """Several labels a text, or a number."""

    target: str = "target"
    """Column to predict: several labels, as in billing;bug, or a number."""

    def datamodule(self) -> datamodules.TextTable:
        return self.table(datamodules.TextTable)

    def target_column(self) -> str:
        return self.target
