"""`scripts/run.py` up to the end of its first training step: `python benchmarks/first_step.py FILE [flags]`."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.experiment import Experiment

ROOT = Path(__file__).resolve().parents[1]


def callbacks(self: Experiment) -> list[Any]:
    from lightning.pytorch import Callback

    class FirstStep(Callback):
        def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
            os._exit(0)

    return [FirstStep()]


Experiment.callbacks = callbacks
runpy.run_path(str(ROOT / "scripts/run.py"), run_name="__main__")
sys.exit("the training ended without a step")
