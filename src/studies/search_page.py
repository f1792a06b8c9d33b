"""What a search has found, as one page: opens from disk, loads nothing; and in TensorBoard."""

from __future__ import annotations

import base64
import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.resources.files import atomic_write, printable
from src.resources.templates import environment
from src.runs import records
from src.runs.compare.groups import flat
from src.runs.compare.table import number
from src.studies.importance import Importances, count, estimate, finished
from src.studies.search_charts import Axis, Point, axis_of, places, point, run_of, steps, text_of, title, value_axis

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

    from src.runs.tensorboard import TensorBoard

PAGE = "search.html"
STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}
"""Optuna's states, as the page calls them."""
MOST_BEST = 10
"""Trials of the table in TensorBoard."""


@dataclass(frozen=True)
class Found:
    """The trials of a search as the page shows them."""

    metric: str
    highest: bool
    """Whether more of the metric is better."""
    trials: list[FrozenTrial]
    """All, in their order."""
    finished: list[FrozenTrial]
    """Those that came to their end with a number, in their order."""
    fields: list[str]
    """The searched fields, in the order in which trials named them."""
    importances: Importances

    @property
    def ranked(self) -> list[FrozenTrial]:
        """The finished trials, the best first."""
        return sorted(self.finished, key=lambda trial: -_value(trial) if self.highest else _value(trial))

    def of(self, kind: str) -> list[FrozenTrial]:
        """Return the trials of a kind: pruned, failed, or running; one that ended without a number has failed."""
        ended = {trial.number for trial in self.finished}
        without = [trial for trial in self.trials if trial.number not in ended]
        states = {"pruned": ("PRUNED",), "failed": ("FAIL", "COMPLETE"), "running": ("RUNNING", "WAITING")}[kind]
        return [trial for trial in without if trial.state.name in states]

    @property
    def counts(self) -> str:
        """How many trials ended how: '60 trials: 33 finished, 24 pruned, 3 failed'."""
        kinds = {"finished": self.finished} | {kind: self.of(kind) for kind in ("pruned", "failed", "running")}
        parts = ", ".join(f"{len(trials)} {kind}" for kind, trials in kinds.items() if trials)
        return f"{count(len(self.trials), 'trial')}{f': {parts}' if parts else ''}"


def found_in(folder: Path, study: Study) -> Found:
    """Return what a search has found so far; its record says of which metric."""
    trials = study.get_trials(deepcopy=False)
    fields = list(dict.fromkeys(name for trial in trials for name in trial.params))
    asked = records.load(folder).get("search", {})
    highest = study.direction.name == "MAXIMIZE"
    return Found(asked.get("metric", "value"), highest, trials, finished(study), fields, estimate(study))


def write(folder: Path, study: Study) -> Path:
    """Write `search.html` into a search's directory, whole or not at all, and return its path."""
    atomic_write(folder / PAGE, page(folder, study))
    return folder / PAGE


def page(folder: Path, study: Study) -> str:
    """Return the page. Whatever comes from the user is escaped."""
    found, record = found_in(folder, study), records.load(folder)
    templates = environment(Path(__file__).parent)
    templates.filters |= {"number": number, "value": text_of, "sha256": sha256, "run_of": run_of}
    return templates.get_template("search.html").render(
        now=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        folder=printable(os.fspath(folder)),
        name=record["experiment"].rpartition(".")[2],
        data=record.get("data", {}),
        search=record.get("search", {}),
        found=found,
        ranked=found.ranked,
        setting=setting(found, record),
        confirmed=confirmed(record, found),
        charts=charts(found) if found.finished else None,
        bars=bars(found.importances),
        reasons=reasons(found.of("failed")),
        pruned=[(trial, *last_value(trial)) for trial in found.of("pruned")],
    )


def setting(found: Found, record: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return field, best value, default and searched values of each field; the best is '' where nothing has finished,
    or the best trial has not the field."""
    default = flat(record["fields"])
    best = found.ranked[0].params if found.finished else {}
    return [
        (name, text_of(best[name]) if name in best else "", text_of(default.get(name, "")), _axis(found, name).domain)
        for name in found.fields
    ]


def charts(found: Found) -> dict[str, Any]:
    """Return the history, the slices and the lines of the parallel coordinates."""
    ranked, values = found.ranked, [_value(trial) for trial in found.finished]
    value = value_axis(found.metric, values, best=_value(ranked[0]))
    order = Axis("trial", 1, max(len(found.trials), 2), integer=True)
    among = [(trial, kind) for kind in ("pruned", "failed", "running") for trial in found.of(kind)]
    history = [point(trial, order.at(trial.number + 1), value, best=trial is ranked[0]) for trial in ranked[::-1]]
    ends = [Point(round(100 * order.at(trial.number + 1), 2), 50, kind, title(trial, kind)) for trial, kind in among]
    axes = [_axis(found, name) for name in found.fields]
    return {
        "value": value,
        "order": order,
        "history": [*ends, *history],
        "steps": steps(found.finished, order, value, highest=found.highest),
        "slices": [(axis, places(axis, ranked[::-1], among, value)) for axis in axes],
        "axes": [*axes, value],
        "lines": [line(trial, rank, ranked, axes, value) for rank, trial in reversed(list(enumerate(ranked)))],
        "beyond": sum(not value.low <= each <= value.high for each in values),
    }


def line(
    trial: FrozenTrial, rank: int, ranked: Sequence[FrozenTrial], axes: Sequence[Axis], value: Axis
) -> dict[str, Any]:
    """Return the line of a finished trial through the parallel axes: per cent from the top at each, 100 being the
    bottom and 104 where the trial has not the field."""
    shares = [axis.at(trial.params[axis.name]) if axis.name in trial.params else -0.04 for axis in axes]
    heights = [round(100 * (1 - share), 2) for share in [*shares, value.at(_value(trial))]]
    across = [100 * (place + 0.5) / len(heights) for place in range(len(heights))]
    return {
        "run": run_of(trial),
        "heights": heights,
        "points": " ".join(f"{x:.2f},{y}" for x, y in zip(across, heights, strict=True)),
        "strength": round(100 * (1 - rank / max(len(ranked) - 1, 1))),
        "title": title(trial, "finished"),
        "best": rank == 0,
    }


def bars(importances: Importances) -> list[tuple[str, float, str]]:
    """Return field, share in per cent, and the share in words."""
    return [(name, round(100 * share, 1), f"{100 * share:.0f} %") for name, share in importances.values.items()]


def reasons(failed: Sequence[FrozenTrial]) -> dict[str, list[FrozenTrial]]:
    """Return the trials that failed by why they did."""
    found: dict[str, list[FrozenTrial]] = {}
    for trial in failed:
        why = f"{trial.value} is no number to compare" if trial.value is not None else "no reason was recorded"
        found.setdefault(str(trial.user_attrs.get("reason", why)), []).append(trial)
    return found


def last_value(trial: FrozenTrial) -> tuple[int, str]:
    """Return after which validation a pruned trial ended, 0 if before the first, and the value there."""
    if not trial.intermediate_values:
        return 0, ""
    last = max(trial.intermediate_values)
    return last, number(trial.intermediate_values[last])


def confirmed(record: Mapping[str, Any], found: Found) -> dict[str, Any]:
    """Return rows of metric, best setting, default and difference over the seeds, those of the test and of the metric
    that was searched by before the others; {} where that was not asked for."""
    of = record.get("confirmed")
    if not of:
        return {}
    rows = {
        name: (name, number(of["best"][name]), number(of["default"][name]), _difference(apart))
        for name, apart in of["differences"].items()
    }
    first = [rows.pop(name) for name in (of["metric"], f"best {found.metric}") if name in rows]
    again = of["best"].get(f"best {found.metric}")
    return {"first": first, "others": [*rows.values()], "seeds": of["seeds"], "again": again}


def _difference(apart: Mapping[str, Any]) -> str:
    if apart.get("low") is None or apart.get("high") is None:
        return f"{apart['mean']:+.4g}"
    return f"{apart['mean']:+.4g} [{apart['low']:+.4g}, {apart['high']:+.4g}]"


def log(tensorboard: TensorBoard, study: Study) -> None:
    """Show the best trials and the importances as text in TensorBoard, and the best value so far as a curve. The fields
    of all trials are in its HPARAMS tab, which has a line for each trial's run."""
    found = found_in(tensorboard.run, study)
    if found.finished:
        head = ["trial", found.metric, *found.fields]
        rows = [
            [run_of(one), number(_value(one)), *(text_of(one.params.get(name, "")) for name in found.fields)]
            for one in found.ranked[:MOST_BEST]
        ]
        tensorboard.log_table("search/best trials", [head, *rows])
    values = found.importances.values
    shares = [[name, f"{share:.1%}"] for name, share in values.items()]
    tensorboard.log_table(
        "search/importances", [["field", found.importances.method or found.importances.why_none], *shares]
    )
    best = -math.inf if found.highest else math.inf
    for trial in found.finished:
        best = (max if found.highest else min)(best, _value(trial))
        tensorboard.experiment.add_scalar(f"search/best {found.metric}", best, trial.number + 1)
    tensorboard.experiment.flush()


def sha256(text: str) -> str:
    """Return a script's hash as a content security policy names it."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _value(trial: FrozenTrial) -> float:
    assert trial.value is not None  # of a finished one
    return trial.value


def _axis(found: Found, name: str) -> Axis:
    return axis_of(name, found.trials)
