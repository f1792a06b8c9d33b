"""What recipes cost a training: the plain one and each recipe, in turns.

    OMP_NUM_THREADS=1 python benchmarks/recipes.py scratch --data-dir my_pictures
    OMP_NUM_THREADS=1 python benchmarks/recipes.py finetune

The ratio is the time that a recipe takes, as a multiple of the plain training's. Growing pictures are timed in their
first epoch, where they are smallest. Views cost a training nothing: each is one more pass in validation and prediction.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report
from benchmarks.loops import ours
from benchmarks.turns import Contender
from experiments.recipes import Plain, Tuned
from src.experiment import Augment, Experiment, Optim, replace

SCRATCH: dict[str, dict[str, Any]] = {
    "randaugment": {"augment": Augment(randaugment=(2, 9))},
    "erasing": {"augment": Augment(erasing=0.5)},
    "mixup": {"augment": Augment(mixup=0.2)},
    "cutmix": {"augment": Augment(cutmix=1.0)},
    "label smoothing": {"label_smoothing": 0.1},
    "dropout": {"dropout": 0.5},
    "ema": {"averaging": "ema"},
    "swa": {"averaging": "swa", "optim": Optim(schedule="constant")},
    "step schedule": {"optim": Optim(schedule="step")},
    "one cycle": {"optim": Optim(schedule="one_cycle", warmup=0.3)},
    "sgd": {"optim": Optim(name="sgd")},
    "lamb": {"optim": Optim(name="lamb")},
    "growing": {"start_size": 0.5},
}
"""What each changes; rates do not matter to the time."""
FINETUNE: dict[str, dict[str, Any]] = {
    "unfreeze": {"optim": Optim(unfreeze=True)},
    "layer-wise rates": {"optim": Optim(layer_decay=0.7)},
    "stochastic depth": {"drop_path": 0.2},
    "growing": {"start_size": 0.5},
}


def contenders(plain: Experiment, recipes: dict[str, dict[str, Any]], steps: int) -> list[Contender]:
    found = [Contender("plain", ours(plain), steps)]
    return found + [Contender(name, ours(replace(plain, **fields)), steps, "plain") for name, fields in recipes.items()]


def main() -> None:
    flags = report.options(__doc__ or "", ["scratch", "finetune"])
    if flags.job == "scratch":
        job = contenders(Plain(data_dir=flags.data_dir), SCRATCH, 20)
    else:
        job = contenders(Tuned(data_dir=flags.data_dir, source="auto" if flags.data_dir else "drawn"), FINETUNE, 3)
    report.show(report.measure(f"recipes, {flags.job}", job, flags.rounds), flags.json)


if __name__ == "__main__":
    main()
