"""Single sentences of film reviews, good or bad: a fine-tuned BERT on short texts."""

from __future__ import annotations

from experiments.texts import TextsBert
from src import datamodules
from src.experiment import TextPrep


class RottenTomatoesBert(TextsBert):
    """Fine-tune a pretrained encoder on sentences of Rotten Tomatoes.

    python scripts/run.py experiments/rotten_tomatoes_bert.py --test
    """

    max_epochs = 2
    prep = TextPrep(max_length=64)

    def datamodule(self) -> datamodules.RottenTomatoes:
        return self.table(datamodules.RottenTomatoes)


DEFAULT = RottenTomatoesBert
