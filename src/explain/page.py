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

import numpy as np
from matplotlib.figure import Figure

from src.configs.labels import is_number, split_labels
from src.configs.spec import TargetKind
from src.explain import drawings
from src.explain.checks import Checks
from src.explain.drawings import Scale
from src.explain.explanation import Explanation, Explanations, Neighbour
from src.explain.wording import cell, effect, number, percent, signed
from src.resources.files import atomic_write, printable
from src.resources.templates import environment
from src.runs import records

FIRST = 15
"""Columns of a row, or words of a text, that are listed at once; the rest is folded."""
MOST = 100
"""That are listed at all."""
MOST_CARDS = 100
"""Explanations that are shown; the first ones are the worst mistakes where these were asked for."""
FAINT = 0.05
"""Share of the largest value up to which a word is not marked."""
STANDARD_ERRORS = 1.96
"""To each side of a value: 95 % of the Monte-Carlo draws lie within."""
CURVE = {"width": 280.0, "height": 150.0}
"""Size of the area that a curve is drawn in, in its own units."""
TINY = 64
"""Side of images below which their pixels are shown as squares."""
LIKE_NUMBER = {"single_label": False, "multi_label": False, "regression": True}


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

    @classmethod
    def of_run(cls, run: Path, *, command: str = "", asked: str = "") -> Self:
        """Return what a run's record says of it.

        Args:
            run: the run directory.
            command: that writes the page.
            asked: the class that is asked about by name.

        Raises:
            InputError: the directory is no run, or its record is damaged.
        """
        record = records.load(run)
        data = record.get("data", {})
        with records.explain_record_errors(run, record):
            return cls(
                run=run,
                experiment=record["experiment"].rpartition(".")[2],
                trained=record.get("started", ""),
                scores={k: float(value) for k, value in record.get("metrics", {}).items() if math.isfinite(value)},
                data=data.get("source", ""),
                stand_in=data.get("stand_in", False),
                weights=record.get("weights", {}).get("source", ""),
                command=command,
                predicts=records.spec_of(record).target.kind if "spec" in record else "single_label",
                asked=asked,
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
    templates.filters |= {"number": number, "signed": signed, "sha256": sha256, "printable": printable}
    templates.globals |= {"percent": percent}
    checks = explanations.checks
    return templates.get_template("page.html").render(
        now=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        head=head,
        explanations=explanations,
        warnings=checks.warnings,
        verdict=verdict(checks),
        lines=checks.lines(),
        faithful=faithful(checks, number_answered=LIKE_NUMBER[head.predicts]),
        cascade=[
            (layer, agreement, Scale(0, 1).at(min(abs(agreement), 1)))
            for layer, agreement in checks.cascade
            if math.isfinite(agreement)
        ],
        cards=[card(each, head, place) for place, each in enumerate(explanations[:MOST_CARDS])],
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


def card(explanation: Explanation, head: Head, place: int) -> dict[str, Any]:
    """Return what the template shows of an explanation.

    Args:
        explanation: the explanation.
        head: tells what kind of answer it is.
        place: among all of the page.
    """
    shown = {"image": image_card, "text": text_card, "table": table_card}[explanation.kind](explanation)
    said = answer(explanation, head)
    return {"it": explanation, "anchor": f"explanation-{place + 1}", "answer": said} | {
        "neighbours": [neighbour(each) for each in explanation.neighbours],
        "is_random": bool(explanation.error is not None and explanation.error.any()),
        "findings": [each for each in explanation.neighbours if each.finding],
        **shown,
    }


def answer(explanation: Explanation, head: Head) -> dict[str, Any]:
    """Return the answer in words: 'said', 'asked' (whether it is one that was asked for by name), 'expected', and
    'right', None where that is not known."""
    expected, said = explanation.expected.strip(), explanation.answer
    if LIKE_NUMBER[head.predicts]:
        off = said - float(expected) if is_number(expected) else None
        shown = (
            f"{number(float(expected))}, the answer is {number(abs(off))} too {'high' if off > 0 else 'low'}"
            if off
            else expected
        )
        return {"said": number(said), "asked": False, "expected": shown, "right": None}
    shown = f"{explanation.target}, {percent(said)}"
    right: bool | None = None
    if expected and head.predicts == "multi_label":  # from 0.5 on, as the run's metrics and its mistakes have it
        right = (explanation.target in split_labels(expected)) == (said >= 0.5)
    elif expected and not head.asked:
        right = expected == explanation.target
    return {"said": shown, "asked": bool(head.asked), "expected": expected, "right": right}


def neighbour(found: Neighbour) -> dict[str, Any]:
    return {"it": found, "image": None if isinstance(found.shown, str) else drawings.thumbnail(found.shown)}


def image_card(explanation: Explanation) -> dict[str, Any]:
    assert explanation.image is not None
    height, width = explanation.image.shape[:2]
    values = np.nan_to_num(explanation.values, nan=0, posinf=0, neginf=0)
    return {
        "width": width,
        "height": height,
        "image": drawings.data_uri(drawings.Image.fromarray(explanation.image)),
        "overlay": drawings.positive_map(values),
        "map": drawings.whole_map(values),
        "place": drawings.place(values),
        "tiny": min(height, width) < TINY,
    }


def text_card(explanation: Explanation) -> dict[str, Any]:
    """Return 'words' in their order, each with its value and shade, 0 to 100; and 'top' of `parts`."""
    values = np.nan_to_num(explanation.values, nan=0, posinf=0, neginf=0)
    largest = float(np.abs(values).max()) if len(values) else 0.0
    shades = np.abs(values) / max(largest, 1e-12)
    errors = _errors(explanation)
    words = [
        {"word": word, "value": value, "shade": round(100 * shade), "side": side(value, least)}
        for word, value, shade, least in zip(
            explanation.names, values.tolist(), shades.tolist(), np.maximum(errors, FAINT * largest), strict=True
        )
    ]
    return {"words": words, "largest": largest, "top": parts(explanation)}


def side(value: float, least: float) -> str:
    """Return what a word is marked as; '' where it counts for no more than the least that is shown."""
    return "" if abs(value) <= least else "for" if value > 0 else "against"


def table_card(explanation: Explanation) -> dict[str, Any]:
    return {"top": parts(explanation)}


def parts(explanation: Explanation) -> list[dict[str, Any]]:
    """Return the words or columns whose value is known, those that count most first, with the shares of their bars."""
    values, errors = explanation.values, _errors(explanation)
    known = np.flatnonzero(np.isfinite(values))
    scale = Scale.around(*(values - errors)[known], *(values + errors)[known])
    order = known[np.argsort(-np.abs(values[known]), kind="stable")].tolist()
    return [
        {
            "name": explanation.names[place],
            "cell": cell(explanation.cells[place]) if explanation.cells else None,
            "whole_cell": explanation.cells[place] if explanation.cells else None,
            "quantile": _quantile(explanation, place),
            "value": float(values[place]),
            "error": float(errors[place]),
            "zero": scale.at(0),
            "bar": scale.between(0, float(values[place])),
            "whisker": scale.between(float(values[place] - errors[place]), float(values[place] + errors[place])),
        }
        for place in order
    ]


def _errors(explanation: Explanation) -> np.ndarray:
    """Return how far the values are sure, to each side; 0 where nothing was drawn at random."""
    if explanation.error is None:
        return np.zeros(len(explanation.values))
    return STANDARD_ERRORS * np.nan_to_num(explanation.error, nan=0, posinf=0, neginf=0)


def _quantile(explanation: Explanation, place: int) -> float | None:
    if not explanation.quantiles or np.isnan(explanation.quantiles[place]):
        return None
    return explanation.quantiles[place]


def sha256(text: str) -> str:
    """Return a script's hash as a content security policy names it."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
