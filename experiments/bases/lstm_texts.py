"""The recipe of the LSTMs on texts, which suits the number of training rows."""

from __future__ import annotations

from typing import ClassVar, Self

from experiments.bases.texts import TextData
from src import models, tasks
from src.experiment import DataSpec, Optim, Recurrent, Search, Vocabulary, choice, log, replace, uniform

LEAST_STEPS, MOST_EPOCHS = 600, 100
"""Steps that `max_epochs` None asks for, within so many epochs."""


class LstmTexts(TextData):
    """The recipe of the LSTMs: small, bidirectional, from random weights.

    With `max_epochs` None there are as many as make 600 steps, at least `least_epochs` and at most 100.
    """

    least_epochs: ClassVar[int] = 4

    max_epochs = None
    batch_size = 64
    optim = Optim(lr=3e-3, weight_decay=0.1, layer_decay=0.2, warmup=0.2)

    search = Search(
        {
            "optim.lr": log(1e-3, 1e-2),
            "optim.weight_decay": log(1e-2, 1.0),
            "lstm.hidden": choice(32, 64, 128),
            "lstm.embedding_dropout": uniform(0.0, 0.5),
            "lstm.dropout": uniform(0.0, 0.6),
        },
        trials=30,
    )

    vocabulary: Vocabulary = Vocabulary(size=30_000, vectors="own", width=64)
    """The tokens that texts are made of, and the vectors that they start with."""
    lstm: Recurrent = Recurrent(word_dropout=0.2, embedding_dropout=0.3, dropout=0.5)
    """Layers, pooling and dropouts."""
    few_rows: int = 500
    """With fewer training rows: batches of 16, a rate of 1e-2 for all layers, and the least loss in place of the
    accuracy chooses the best; each only where it was left as the recipe has it. 0: never."""

    def sized(self, rows: int, devices: int) -> Self:
        found = self
        if rows < self.few_rows:
            if found.batch_size == LstmTexts.batch_size:
                found = replace(found, batch_size=16)
            if found.optim == LstmTexts.optim:
                found = replace(found, optim=replace(found.optim, lr=1e-2, layer_decay=1.0))
            if found.monitor == "val/acc":  # of a few rows many epochs have the same
                found = replace(found, monitor="val/loss", mode="min")
        if found.max_epochs is None:
            steps = -(-rows // (found.batch_size * found.accumulate * devices))
            found = replace(found, max_epochs=min(max(self.least_epochs, -(-LEAST_STEPS // steps)), MOST_EPOCHS))
        return found

    def tokens(self) -> Vocabulary:
        return self.vocabulary

    def task(self, spec: DataSpec) -> tasks.Task:
        objective = self.objective(spec)
        model = models.LSTM(spec, objective.num_outputs, self.vocabulary.width, self.lstm, weights=self.weights)
        return self.trained(model, objective)


class LongerLstm(LstmTexts):
    """The same for several labels or a number: longer, with less dropped."""

    least_epochs = 20
    few_rows = 0
    batch_size = 32
    lstm = Recurrent(embedding_dropout=0.1, dropout=0.2)
