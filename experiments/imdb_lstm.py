"""IMDb reviews, good or bad: a small LSTM, and the common tutorial's."""

from __future__ import annotations

from experiments.bases.texts import TextData
from experiments.texts import TextsLstm
from src import datamodules
from src.experiment import Optim, Recurrent, TextPrep, Vocabulary


class ImdbData(TextData):
    """The data that all experiments of this file share."""

    def datamodule(self) -> datamodules.Imdb:
        return self.table(datamodules.Imdb)


class ImdbLstm(ImdbData, TextsLstm):
    """Train a small bidirectional LSTM on IMDb reviews.

    python scripts/run.py experiments/imdb_lstm.py --test --seeds 0 1 2
    Expected on the packaged 17 474 / 2 499 / 5 000 reviews, held out as blocks, 2 CPU cores (AVX-512 bf16):
      test/acc 0.889 (0.887-0.892, 3 seeds), val/acc 0.888, 61-71 s a seed
    """

    max_epochs = 4
    few_rows = 0
    prep = TextPrep(strip_html=True, max_length=208)


class ImdbLstmTextbook(ImdbLstm):
    """The common tutorial's model as it stands, the mark to beat: one direction, the last state, all padded to 512.

    python scripts/run.py experiments/imdb_lstm.py:ImdbLstmTextbook
    """

    max_epochs = 10
    batch_size = 32
    precision = "32-true"
    grad_clip = None
    label_smoothing = 0.0
    optim = Optim(name="adam", weight_decay=0.0, schedule="constant")
    prep = TextPrep(strip_html=True, max_length=512, truncation="head", padding="max_length")
    vocabulary = Vocabulary()
    lstm = Recurrent(hidden=128, bidirectional=False, pooling=("last",), embedding_dropout=0.2, recurrent_dropout=0.2)


DEFAULT = ImdbLstm
