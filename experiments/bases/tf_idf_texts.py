"""The recipe of TF-IDF on texts."""

from __future__ import annotations

from experiments.bases.texts import TextData
from src import models, tasks
from src.experiment import DataSpec, Optim, Search, Terms, TextPrep, Vocabulary, choice, log


class TfIdfTexts(TextData):
    """Fitted, then an epoch that changes nothing and measures it on the training."""

    max_epochs = 1
    batch_size = 64
    grad_clip = None
    precision = "32-true"
    prep = TextPrep(max_length=512)
    optim = Optim(lr=0.0, weight_decay=0.0, schedule="constant")

    search = Search(
        {"terms.strength": log(0.3, 100.0), "terms.pairs": choice(True, False), "terms.least": choice(1, 2, 4)},
        trials=20,
    )

    vocabulary: Vocabulary = Vocabulary(size=100_000)
    """The words that are counted."""
    terms: Terms = Terms()
    """What is counted of them, and how the model is fitted."""

    def tokens(self) -> Vocabulary:
        return self.vocabulary

    def task(self, spec: DataSpec) -> tasks.Task:
        objective = self.objective(spec)
        model = models.TfIdf(spec, objective.num_outputs, self.terms, weights=self.weights)
        cached = "start" if self.weights == "none" else "no"  # weights of a file stay
        return tasks.Task(model, objective, tasks.inputs.TextInput(), self.optim, cached_features=cached)
