"""What is said of the trials of a search while it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.configs import shown
from src.configs.errors import InputError
from src.runs import records
from src.terminal import console

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def best_of(study: Any) -> FrozenTrial | None:
    """Return the best trial that came to its end, the first of equals; None where there is none."""
    complete = [one for one in study.get_trials(deepcopy=False) if one.state.name == "COMPLETE"]
    choose: Callable[..., Any] = min if study.direction.name == "MINIMIZE" else max
    return choose(complete, key=lambda one: one.value, default=None)


def show_data(run: Path) -> None:
    """Print what data the first trial has had."""
    with contextlib.suppress(InputError):
        data = records.load(run).get("data")
        if data:
            console.line("data", f"{data['source']}; splits {data['split']}")
        if data and data["stand_in"]:
            console.line("STAND-IN", "these data only stand in; no score on them holds for real ones (--data-dir)")


def show(trial: FrozenTrial, study: Any, monitor: str, *, model: str = "") -> None:
    """Print a trial in one line: its value, the best so far, how long it took, and its setting.

    Args:
        trial: one that has ended.
        study: that it is of.
        monitor: the metric of its value.
        model: what is searched, where several are in turns.
    """
    best, values = best_of(study), trial.intermediate_values
    match trial.state.name:
        case "COMPLETE":
            ended = f"{monitor} {shown.metric(trial.value or 0.0)}"
        case "PRUNED":
            ended = f"pruned at validation {max(values)}: {monitor} {shown.metric(values[max(values)])}"
        case _:
            ended = f"failed: {trial.user_attrs.get('reason')}"
    if "same_as" in trial.user_attrs:
        took = f"as trial {trial.user_attrs['same_as'] + 1}"
    else:
        took = f"{trial.user_attrs.get('seconds', 0.0):.1f} s"
    so_far = f"  best {shown.metric(best.value or 0.0)} (trial {best.number + 1})" if best else ""
    setting = "  ".join(f"{name} {setting_value(value)}" for name, value in trial.params.items())
    label, name = f"trial {trial.number + 1}", ""
    if model:
        label, name = "tried", f"{model}/trial-{trial.number + 1}: "
    console.line(label, f"{name}{ended}{so_far}  {took}  {setting}")


def setting_value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def reasons(failed: Sequence[FrozenTrial]) -> str:
    """Return why trials have failed: each reason once."""
    return "; ".join(dict.fromkeys(one.user_attrs.get("reason", "unknown") for one in failed))
