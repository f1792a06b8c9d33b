"""How long a training takes from its start to a validation accuracy, decoding and tokenising included.

    python benchmarks/time_to_score.py cats_dogs
    python benchmarks/time_to_score.py imdb

Ours and the textbook's recipe, each in an empty cache and once, for up to 12 minutes. The pictures are those of
`data/cats_dogs`, `--data-dir` or the first source that there is; the textbook's loop gets the same pretrained backbone.
"""

from __future__ import annotations

import csv
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lightning.pytorch.callbacks import EarlyStopping

from benchmarks import report
from experiments.cats_dogs_finetune import CatsDogsFinetune, CatsDogsTextbook
from experiments.imdb_lstm import ImdbLstm, ImdbLstmTextbook
from src import models, tasks
from src.experiment import DataSpec, Experiment, InputError, replace
from src.training import runner
from src.training.trainer import quieten

MARKS = {"cats_dogs": 0.98, "imdb": 0.88}
MOST = "00:00:12:00"


def until(mark: float) -> list[Any]:
    return [EarlyStopping("val/acc", mode="max", patience=10**6, stopping_threshold=mark)]


class OurPictures(CatsDogsFinetune):
    """Stops at the mark."""

    def callbacks(self) -> list[Any]:
        return until(MARKS["cats_dogs"])


class TextbookPictures(CatsDogsTextbook):
    """The textbook's loop on the backbone that ours has."""

    max_epochs = 10

    def task(self, spec: DataSpec) -> tasks.ImageClassification:
        backbone = models.available_backbone("resnet50", "tf_efficientnet_lite0", "imagenet")
        model = models.ResNet(backbone, spec.num_classes, weights=self.weights)
        return tasks.ImageClassification(model, spec, self.optim, channels_last=False)

    def callbacks(self) -> list[Any]:
        return until(MARKS["cats_dogs"])


class OurTexts(ImdbLstm):
    """Stops at the mark."""

    def callbacks(self) -> list[Any]:
        return until(MARKS["imdb"])


class TextbookTexts(ImdbLstmTextbook):
    """Stops at the mark."""

    def callbacks(self) -> list[Any]:
        return until(MARKS["imdb"])


def seconds(experiment: Experiment, mark: float) -> tuple[float | None, float]:
    """Return how long it took to the mark, None where it was not reached, and the best accuracy."""
    with tempfile.TemporaryDirectory() as name:
        os.environ |= {"LEYDEN_CACHE": f"{name}/cache", "LEYDEN_RUNS": f"{name}/runs"}
        started = time.time()
        run = runner.run(replace(experiment, max_time=MOST, patience=None))
        with open(run / "metrics.csv", encoding="utf-8", newline="") as file:
            points = [(float(r["value"]), float(r["time"])) for r in csv.DictReader(file) if r["name"] == "val/acc"]
    reached = [at - started for value, at in points if value >= mark]
    return (reached[0] if reached else None), max(value for value, _ in points)


def main() -> None:
    flags = report.options(__doc__ or "", [*MARKS])
    quieten()
    mark = MARKS[flags.job]
    kinds = {"cats_dogs": (OurPictures, TextbookPictures), "imdb": (OurTexts, TextbookTexts)}[flags.job]
    job, rows = f"time to val/acc {mark:.0%}, {flags.job}", list[report.Row]()
    for name, kind in zip(("Leyden", "textbook's recipe"), kinds, strict=True):
        try:
            found, best = seconds(kind(data_dir=flags.data_dir), mark)
            note = f"not reached: {best:.3f} at the best"
            rows.append(report.Row(job, name, "s", found, note="" if found else note))
        except (InputError, ImportError) as error:
            rows.append(report.Row(job, name, note=f"not run: {error}"))
    report.show(rows, flags.json)


if __name__ == "__main__":
    main()
