"""Any table of texts and labels (CSV, JSON lines, Parquet): a small LSTM, or a fine-tuned BERT."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from src import datamodules, models, tasks
from src.experiment import ClassificationExperiment, DataSpec, Optim, Recurrent, TextPrep, Vocabulary, replace

Table = TypeVar("Table", bound="datamodules.TextTable")


class TextData(ClassificationExperiment):
    """The data that all text experiments share; each adds its model."""

    monitor = "val/acc"
    mode = "max"
    grad_clip = 1.0

    text_column: str = "text"
    """Column of the texts."""
    label_column: str = "label"
    """Column of the labels, words or numbers."""
    prep: TextPrep = TextPrep()
    """How texts are cleaned, cut and put into batches."""
    labelled: int | None = None
    """Keep only so many labels a class, a quarter of them for validation; drawn with the seed."""
    label_smoothing: float = 0.1
    """Share of each target that is spread over all classes."""
    optim: Optim = Optim()
    """Optimiser and schedule."""

    def datamodule(self) -> datamodules.TextTable:
        return self.table(datamodules.TextTable)

    def table(self, kind: type[Table]) -> Table:
        """Build a data module of texts with the experiment's fields."""
        return kind(
            self.data_dir,
            source=self.source,
            columns=(self.text_column, self.label_column),
            vocabulary=self.tokens(),
            prep=self.prep,
            labelled=self.labelled,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            seed=self.seed,
        )

    def tokens(self) -> Vocabulary:
        """Return the vocabulary that the model is for."""
        raise NotImplementedError


class TextsLstm(TextData):
    """Train a small bidirectional LSTM from random weights on a table of texts.

    python scripts/run.py experiments/texts.py --data-dir my_tickets.csv --text-column body --label-column team
    """

    max_epochs = 4
    batch_size = 64
    optim = Optim(lr=3e-3, weight_decay=0.1, layer_decay=0.2, warmup=0.2)

    vocabulary: Vocabulary = Vocabulary(size=30_000, vectors="own", width=64)
    """The tokens that texts are made of, and the vectors that they start with."""
    lstm: Recurrent = Recurrent(word_dropout=0.2, embedding_dropout=0.3, dropout=0.5)
    """Layers, pooling and dropouts."""

    def tokens(self) -> Vocabulary:
        return self.vocabulary

    def task(self, spec: DataSpec) -> tasks.TextClassification:
        model = models.LSTM(spec, self.vocabulary.width, self.lstm, weights=self.weights)
        return tasks.TextClassification(model, spec, self.optim, label_smoothing=self.label_smoothing)


class TextsBert(TextData):
    """Fine-tune a pretrained encoder on a table of texts.

    python scripts/run.py experiments/texts.py:TextsBert --data-dir tickets.csv --text-column body --label-column team
    """

    cached_features: ClassVar[Literal["no", "start", "probe"]] = "no"

    weights = "pretrained"
    max_epochs = 1
    validations = 2
    prep = TextPrep(max_length=256)
    optim = Optim(lr=1.5e-4, layer_decay=0.8, schedule="linear", warmup=0.1)

    encoder: str = "bert-base-uncased"
    """Any encoder of the transformers library: a name on the Hub, or a folder."""
    offline_encoder: str = "sentence-transformers/all-MiniLM-L6-v2"
    """Stands in where `encoder` cannot be had; it comes with a pip package."""
    pooling: Literal["mean", "cls", "pooler"] = "mean"
    """What is made of a text's states: their mean, the first, or the encoder's own pooler."""
    frozen: int = 0
    """That many of the lowest layers, and the embedding with the first, stay as they are; -1 freezes all."""
    dropout: float = 0.0
    """In the whole encoder and before the head. Drawing random numbers takes a third of a step on a CPU."""
    gradient_checkpointing: bool = False
    """Compute the layers again in the backward pass, to save memory."""

    def resolve(self) -> TextsBert:
        named = self.encoder != type(self).encoder
        return replace(self, encoder=models.available_encoder(self.encoder, self.offline_encoder, named=named))

    def tokens(self) -> Vocabulary:
        return Vocabulary(tokenizer=self.encoder)

    def for_inference(self, run: Path) -> TextsBert:
        return replace(super().for_inference(run), encoder=str(run / "tokenizer"))

    def task(self, spec: DataSpec) -> tasks.TextClassification:
        model = models.Bert(
            self.encoder,
            spec,
            weights=self.weights,
            pooling=self.pooling,
            frozen=self.frozen,
            dropout=self.dropout,
            gradient_checkpointing=self.gradient_checkpointing,
        )
        return tasks.TextClassification(
            model, spec, self.optim, label_smoothing=self.label_smoothing, cached_features=self.cached_features
        )


DEFAULT = TextsLstm
