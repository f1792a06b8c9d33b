"""What recipes cost a training: a plain one and each recipe, in turns.

    OMP_NUM_THREADS=1 python benchmarks/recipes.py --data-dir my_pictures mixup ema lamb
    OMP_NUM_THREADS=1 python benchmarks/recipes.py --tuned unfreeze drop_path

The last column but one is the time a recipe takes as a multiple of the plain training's. Growing pictures are timed at
their start, where they are smallest. Views cost training nothing; each is a pass more in validation and prediction.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.turns import Steps, Turns, race
from experiments.recipes import Plain, Tuned
from src import runner
from src.experiment import Augment, Optim, replace
from src.features import keep_features  # noqa: F401  # imported before the contenders are forked
from src.loggers import MetricsCsv, TensorBoard
from src.trainer import build_callbacks, build_trainer, quieten

RECIPES: dict[str, dict[str, Any]] = {
    "randaugment": {"augment": Augment(randaugment=(2, 9))},
    "erasing": {"augment": Augment(erasing=0.5)},
    "mixup": {"augment": Augment(mixup=0.2)},
    "cutmix": {"augment": Augment(cutmix=1.0)},
    "label_smoothing": {"label_smoothing": 0.1},
    "dropout": {"dropout": 0.5},
    "ema": {"averaging": "ema"},
    "swa": {"averaging": "swa"},
    "one_cycle": {"optim": Optim(schedule="one_cycle", warmup=0.3)},
    "sgd": {"optim": Optim(name="sgd")},
    "lamb": {"optim": Optim(name="lamb")},
    "growing": {"start_size": 0.5},
    "unfreeze": {"optim": Optim(unfreeze=True)},
    "layer_rates": {"optim": Optim(layer_decay=0.7)},
    "drop_path": {"drop_path": 0.2},
}
"""What each changes; rates do not matter to the time."""


def contender(experiment: Plain | Tuned, folder: Path) -> Callable[[Turns], None]:
    def train(turns: Turns) -> None:
        quieten()
        datamodule, task = runner.build_parts(experiment)
        folder.mkdir()
        callbacks = [*build_callbacks(experiment, folder), Steps(turns)]
        trainer = build_trainer(experiment, callbacks, logger=[MetricsCsv(folder), TensorBoard(folder)])
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            trainer.fit(task, datamodule=datamodule)

    return train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", choices=RECIPES)
    parser.add_argument("--tuned", action="store_true", help="over the fine-tuning, on drawn pictures")
    parser.add_argument("--data-dir", type=Path, help="pictures, without --tuned")
    parser.add_argument("--rounds", type=int, default=5, help="timed turns of each, after one for warm-up")
    parser.add_argument("--steps", type=int, default=20, help="optimiser steps a turn")
    options = parser.parse_args()
    source: dict[str, Any] = {"source": "drawn"} if options.tuned else {"data_dir": options.data_dir}
    plain = (Tuned if options.tuned else Plain)(max_epochs=1000, limit_val_batches=1, **source).resolve()
    with tempfile.TemporaryDirectory() as name:
        contenders = {"plain": contender(plain, Path(name) / "plain")}
        for recipe in options.recipes:
            contenders[recipe] = contender(replace(plain, **RECIPES[recipe]), Path(name) / recipe)
        race(contenders, options.rounds, options.steps)


if __name__ == "__main__":
    main()
