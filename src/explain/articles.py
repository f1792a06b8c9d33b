"""What the page shows of an explanation, as its template takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from src.configs.labels import is_number, split_labels
from src.explain import drawings
from src.explain.drawings import Scale
from src.explain.explanation import Explanation, Neighbour
from src.explain.wording import cell, number, percent

if TYPE_CHECKING:
    from src.explain.page import Head

FAINT = 0.05
"""Share of the largest value up to which a word is not marked."""
TINY = 64
"""Side of images below which their pixels are shown as squares."""


def article(explanation: Explanation, head: Head, place: int) -> dict[str, Any]:
    """Return what the template shows of an explanation.

    Args:
        explanation: the explanation.
        head: tells what kind of answer it is.
        place: among all of the page.
    """
    shown = {"image": image_card, "text": text_card, "table": table_card}[explanation.kind](explanation)
    said = answer(explanation, head)
    name = explanation.id.strip() or f"input {place + 1}"
    return {"it": explanation, "name": name, "anchor": f"explanation-{place + 1}", "answer": said} | {
        "neighbours": [neighbour(each) for each in explanation.neighbours],
        "is_random": bool(explanation.margin.any()),
        "is_empty": not explanation.values.any(),
        "findings": [each for each in explanation.neighbours if each.finding],
        **shown,
    }


def answer(explanation: Explanation, head: Head) -> dict[str, Any]:
    """Return the answer in words: 'what' is said, 'said', 'expected', and 'right', None where that is not known."""
    expected, said = explanation.expected.strip(), explanation.answer
    if head.predicts == "regression":
        off = said - float(expected) if is_number(expected) else None
        shown = (
            f"{number(float(expected))}, the answer is {number(abs(off))} too {'high' if off > 0 else 'low'}"
            if off
            else expected
        )
        return {"what": "Answer", "said": number(said), "expected": shown, "right": None}
    shown, what = f"{explanation.target}, {percent(said)}", "Asked about" if head.asked else "Answer"
    right: bool | None = None
    if explanation.given is not None:
        shown += " (given)" if explanation.given else " (not given)"
        what = what if head.asked else "Most wrong label" if head.mistakes else "Likeliest label"
        right = (explanation.target in split_labels(expected)) == explanation.given if expected else None
    elif expected and not head.asked:
        right = expected == explanation.target
    return {"what": what, "said": shown, "expected": expected, "right": right}


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
    errors = explanation.margin
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
    values, errors = explanation.values, explanation.margin
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


def _quantile(explanation: Explanation, place: int) -> float | None:
    if not explanation.quantiles or np.isnan(explanation.quantiles[place]):
        return None
    return explanation.quantiles[place]
