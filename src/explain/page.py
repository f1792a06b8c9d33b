"""Explanations as one page: opens from disk and loads nothing. What comes from the user is escaped."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from matplotlib.figure import Figure

from src.configs.shown import metric
from src.configs.spec import TargetKind
from src.explain import drawings
from src.explain.articles import article
from src.explain.checks import Checks
from src.explain.drawings import Scale
from src.explain.explanation import Explanations
from src.explain.places import command_shown, place_of, source_shown
from src.explain.wording import effect, number, percent, signed
from src.resources.files import atomic_write, printable
from src.resources.templates import environment
from src.runs import records

FIRST = 15
"""Columns of a row, or words of a text, that are listed at once; the rest is folded."""
MOST = 100
"""That are listed at all."""
MOST_CARDS = 100
"""Explanations that are shown; the first ones are the worst mistakes where these were asked for."""
CURVE = {"width": 280.0, "height": 150.0}
"""Size of the area that a curve is drawn in, in its own units."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """What stands at the top of the page.

    Attributes:
        run: that is explained.
        experiment: its name.
        trained: when it was, as the record says.
        scores: metric -> value of the run itself.
        data: where its data came from.
        stand_in: whether these only stand in for the real ones.
        weights: where its first weights came from.
        command: that wrote the page.
        predicts: the kind of its targets.
        asked: the class that was asked about by name; '' where the likeliest of each input is explained.
        mistakes: whether the run's own mistakes are explained, of several labels the one that was decided worst.
    """

    run: Path
    experiment: str
    trained: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    data: str = ""
    stand_in: bool = False
    weights: str = ""
    command: str = ""
    predicts: TargetKind = "single_label"
    asked: str = ""
    mistakes: bool = False

    @classmethod
    def of_run(cls, run: Path, *, command: str = "", asked: str = "", mistakes: bool = False) -> Self:
        """Return what a run's record says of it.

        Args:
            run: the run directory.
            command: that writes the page.
            asked: the class that is asked about by name.
            mistakes: whether the run's own are explained.

        Raises:
            InputError: the directory is no run, or its record is damaged.
        """
        record = records.load(run)
        data = record.get("data", {})
        with records.explain_record_errors(run, record):
            return cls(
                run=place_of(run),
                experiment=record["experiment"].rpartition(".")[2],
                trained=record.get("started", ""),
                scores={k: float(value) for k, value in record.get("metrics", {}).items() if math.isfinite(value)},
                data=source_shown(data.get("source", "")),
                stand_in=data.get("stand_in", False),
                weights=source_shown(record.get("weights", {}).get("source", "")),
                command=command_shown(command, run),
                predicts=records.spec_of(record).target.kind if "spec" in record else "single_label",
                asked=asked,
                mistakes=mistakes,
            )


def write(explanations: Explanations, head: Head, path: Path, overall: Sequence[tuple[str, Figure | str]] = ()) -> None:
    """Write the page, whole or not at all.

    Args:
        explanations: what it shows.
        head: what it says of the run.
        path: of the file.
        overall: title and figure, or SVG, of each view of the whole network.
    """
    atomic_write(path, page(explanations, head, overall))


def page(explanations: Explanations, head: Head, overall: Sequence[tuple[str, Figure | str]] = ()) -> str:
    """Return the page; see `write`."""
    templates = environment(Path(__file__).parent)
    templates.filters |= {
        "number": number,
        "signed": signed,
        "metric": metric,
        "sha256": sha256,
        "printable": printable,
    }
    templates.globals |= {"percent": percent}
    checks = explanations.checks
    return templates.get_template("page.html").render(
        now=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        head=head,
        explanations=explanations,
        warnings=checks.warnings,
        verdict=verdict(checks),
        lines=checks.lines(),
        faithful=faithful(checks, number_answered=head.predicts == "regression"),
        cascade=[
            (layer, agreement, Scale(0, 1).at(min(abs(agreement), 1)))
            for layer, agreement in checks.cascade
            if math.isfinite(agreement)
        ],
        cards=[article(each, head, place) for place, each in enumerate(explanations[:MOST_CARDS])],
        effect=effect(explanations.unit),
        overall=[(title, drawings.svg_of(one, title), isinstance(one, Figure)) for title, one in overall],
        first=FIRST,
        most=MOST,
    )


def verdict(checks: Checks) -> str:
    """Return in a sentence whether the explanations can be believed, where no check warns."""
    if checks.faithful is None:
        return "No check speaks against these explanations. Whether they beat chance was not measured."
    if checks.faithful.beats_chance is None:
        few = "a single input" if checks.faithful.examples == 1 else "so few inputs"
        return f"No check speaks against these explanations. Whether they beat chance cannot be told from {few}."
    if not checks.cascade:
        return "These explanations beat chance. Whether they are about what the network has learned was not checked."
    return "These explanations beat chance, change with the network's weights, and no other check speaks against them."


def faithful(checks: Checks, *, number_answered: bool) -> dict[str, Any] | None:
    """Return what is drawn of the insertion and deletion curves; None where they were not measured."""
    found = checks.faithful
    if found is None:
        return None
    lines = (found.insertion, found.deletion, found.random_insertion, found.random_deletion)
    curves = [value for line in lines for value in line]
    if not all(map(math.isfinite, [*curves, found.gain, found.random, *(found.interval or ())])):
        return None
    scale = Scale(min(curves), max(max(curves), min(curves) + 1e-9)) if number_answered else Scale.around(1, *curves)
    interval = found.interval or (found.gain, found.gain)
    gains = Scale.around(found.gain, found.random, *interval)
    return {
        "scale": scale,
        "lines": [drawings.polyline(line, scale, **CURVE) for line in lines],
        "what": "minus the distance from the answer, in standard deviations" if number_answered else "probability",
        "gains": gains,
        "whisker": gains.between(*interval) if found.interval else None,
        "measured": found,
    } | CURVE


def sha256(text: str) -> str:
    """Return a script's hash as a content security policy names it."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
