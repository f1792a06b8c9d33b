"""A run's worst mistakes in its TensorBoard, with what they rest on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from src.explain.explanation import Explanation
from src.runs.tensorboard import VISUALS, TensorBoard
from src.tasks.objectives.figures import draw_images

NAME = "val/worst, explained"
PARTS = 5
"""Words or columns that are named."""


def show(run: Path, mistakes: Sequence[Explanation], titles: Sequence[str]) -> None:
    """Add mistakes to the TensorBoard of a run: images under their maps, else the words or columns that count most.

    Args:
        run: the run directory.
        mistakes: of one kind of input, the worst first.
        titles: of each, as the run's own evaluation has them.
    """
    tensorboard = TensorBoard(run)
    if mistakes[0].kind == "image":
        pictures = torch.from_numpy(np.stack([np.asarray(one.picture()) for one in mistakes])).permute(0, 3, 1, 2)
        tensorboard.experiment.add_figure(f"{VISUALS}/{NAME}", draw_images(pictures, titles))
    else:
        first = "word" if mistakes[0].kind == "text" else "column"
        rows = [["input", "mistake", "explained", f"{first}s that count most"]]
        for one, title in zip(mistakes, titles, strict=True):
            found = one.table().head(PARTS)
            parts = [f"{name} {value:+.3g}" for name, value in zip(found[first], found["attribution"], strict=True)]
            rows.append([one.id, title, f"{one.target} {one.answer:.3g}", ", ".join(parts)])
        tensorboard.log_table(NAME, rows)
    tensorboard.finalize("success")  # its thread would stay
