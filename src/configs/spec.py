"""What a model and a task may know of the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TargetKind = Literal["single_label", "multi_label", "regression"]


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is predicted: one class, several labels or a number. A number's scale is fitted on the training split."""

    kind: TargetKind = "single_label"
    """One class of an example, any number of labels, or a number."""
    name: str = ""
    """Column of the target, if it has one."""
    log: bool = False
    """The model sees the logarithm."""
    mean: float = 0.0
    """Of the targets, or of their logarithms: the model sees (target - mean) / std."""
    std: float = 1.0
    """Of the same."""


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """All that a model and a task may know of the data. Saved in the run, so that prediction needs no data."""

    classes: tuple[str, ...] = ()
    """Class or label names; the position is the target's value, or its column."""
    class_counts: tuple[int, ...] = ()
    """Training examples of each class or label."""
    input_shape: tuple[int, ...] = ()
    """One example without the batch: for images (channels, height, width), for texts (most tokens,)."""
    vocab_size: int = 0
    """Tokens that the tokenizer knows."""
    pad_id: int = 0
    """Token that fills up the shorter texts of a batch; a mask says where."""
    unknown_id: int = 0
    """Token for what the tokenizer does not know."""
    vectors: str = ""
    """Array file with a pretrained vector for each token, NaN where there is none; for training only."""
    numbers: int = 0
    """Numbers that describe a row of a table."""
    missing: tuple[int, ...] = ()
    """Positions of the numbers that can be missing; the last numbers of a row say of each whether it is."""
    categories: tuple[int, ...] = ()
    """For each category of a row, how many values it has; value 0 stands for what training had not."""
    bins: tuple[tuple[float, ...], ...] = ()
    """For each number the edges of its bins, where the model asks for them; quantiles of the training split."""
    target: Target = Target()
    """What is predicted."""

    @property
    def num_classes(self) -> int:
        return len(self.classes)
