"""What is predicted: loss, metrics and columns of predictions."""

from src.configs.spec import DataSpec, TargetKind
from src.tasks.objectives.multi_label import MultiLabel
from src.tasks.objectives.objective import Objective
from src.tasks.objectives.regression import OUTPUTS, Regression
from src.tasks.objectives.single_label import SingleLabel

KINDS: dict[TargetKind, type[Objective]] = {
    "single_label": SingleLabel,
    "multi_label": MultiLabel,
    "regression": Regression,
}


def default_objective(spec: DataSpec) -> Objective:
    """Return the objective of the spec's target with its default loss, to score and show predictions that are there."""
    return KINDS[spec.target.kind](spec)


__all__ = ["KINDS", "OUTPUTS", "MultiLabel", "Objective", "Regression", "SingleLabel", "default_objective"]
