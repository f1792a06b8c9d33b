"""Any table of texts with a column to predict (CSV, JSON lines, Parquet): a small LSTM, or a fine-tuned BERT.

The column has one label a text, several, or a number; for each there is an experiment with either model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from experiments.bases.lstm_texts import LongerLstm, LstmTexts
from experiments.bases.texts import LabelledTexts, TargetTexts, TextData
from src import models, tasks
from src.experiment import (
    DataSpec,
    MultiLabelExperiment,
    Optim,
    RegressionExperiment,
    TextPrep,
    Vocabulary,
    replace,
)


class BertTexts(TextData):
    """The recipe of the pretrained encoders, fine-tuned."""

    weights = "pretrained"
    max_epochs = 1
    validations = 2
    prep = TextPrep(max_length=256)
    optim = Optim(lr=1.5e-4, layer_decay=0.8, schedule="linear", warmup=0.1)

    encoder: str = "bert-base-uncased"
    """Any encoder of the transformers library: a name on the Hub, or a folder."""
    offline_encoder: str = "sentence-transformers/all-MiniLM-L6-v2"
    """Used where `encoder` is not available; it comes with a pip package."""
    pooling: Literal["mean", "cls", "pooler"] = "mean"
    """What is made of a text's states: their mean, the first, or the encoder's own pooler."""
    frozen: int = 0
    """That many of the lowest layers, and the embedding with the first, stay as they are; -1 freezes all."""
    dropout: float = 0.0
    """In the whole encoder and before the head. Drawing random numbers takes a third of a step on a CPU."""
    gradient_checkpointing: bool = False
    """Compute the layers again in the backward pass, to save memory."""

    def resolve(self) -> Self:
        named = self.encoder != type(self).encoder
        return replace(self, encoder=models.available_encoder(self.encoder, self.offline_encoder, named=named))

    def tokens(self) -> Vocabulary:
        return Vocabulary(tokenizer=self.encoder)

    def for_inference(self, run: Path) -> Self:
        return replace(super().for_inference(run), encoder=str(run / "tokenizer"))

    def task(self, spec: DataSpec) -> tasks.Task:
        objective = self.objective(spec)
        return self.trained(self.network(spec, objective.num_outputs), objective)

    def network(self, spec: DataSpec, num_outputs: int) -> models.Bert:
        """Return the encoder and its head."""
        return models.Bert(
            self.encoder,
            spec,
            num_outputs,
            weights=self.weights,
            pooling=self.pooling,
            frozen=self.frozen,
            dropout=self.dropout,
            gradient_checkpointing=self.gradient_checkpointing,
        )


class TextsLstm(LabelledTexts, LstmTexts):
    """Train a small bidirectional LSTM to tell which label a text has.

    python scripts/run.py experiments/texts.py --data-dir my_tickets.csv --text-column body --label-column team
    From 9 600 training rows on there are 4 epochs; `benchmarks/small_texts.py` measures what it does on fewer.
    """


class TextsMultiLabel(MultiLabelExperiment, TargetTexts, LongerLstm):
    """Train a small bidirectional LSTM to tell which labels, any number of them, a text has.

    python scripts/run.py experiments/texts.py:TextsMultiLabel --data-dir tickets.csv --text-column body --target tags
    Expected on the made-up tickets (2100/450/450), where words alone are built to tell little: test/map 0.950
      (0.946-0.957, 3 seeds), test/f1_macro 0.956 (0.954-0.957); TF-IDF with logistic regression 0.879 and 0.795
    """


class TextsRegression(RegressionExperiment, TargetTexts, LongerLstm):
    """Train a small bidirectional LSTM to predict a number from a text.

    python scripts/run.py experiments/texts.py:TextsRegression --data-dir reviews.csv --text-column body --target stars
    Expected on the made-up reviews (2100/450/450), whose ratings have noise of 0.4: test/rmse 0.440 (0.437-0.444,
      3 seeds), test/r2 0.916 (0.915-0.917); TF-IDF with ridge regression 0.989 and 0.576
    """


class TextsProbe(LabelledTexts, BertTexts):
    """Solve a linear head on the cached features of a frozen sentence encoder, and train it on.

    python scripts/run.py experiments/texts.py:TextsProbe --data-dir tickets.csv --text-column body --label-column team
    """

    cached_features = "probe"
    encoder = "sentence-transformers/all-MiniLM-L6-v2"
    frozen = -1
    max_epochs = 10
    label_smoothing = 0.0
    optim = Optim(lr=1e-3, weight_decay=0.1)


class TextsBert(LabelledTexts, BertTexts):
    """Fine-tune a pretrained encoder to tell which label a text has.

    python scripts/run.py experiments/texts.py:TextsBert --data-dir tickets.csv --text-column body --label-column team
    """


class TextsBertMultiLabel(MultiLabelExperiment, TargetTexts, BertTexts):
    """Fine-tune a pretrained encoder to tell which labels, any number of them, a text has.

    python scripts/run.py experiments/texts.py:TextsBertMultiLabel --data-dir tickets.csv --target tags
    """


class TextsBertRegression(RegressionExperiment, TargetTexts, BertTexts):
    """Fine-tune a pretrained encoder to predict a number from a text.

    python scripts/run.py experiments/texts.py:TextsBertRegression --data-dir reviews.csv --target stars
    """


DEFAULT = TextsLstm
