"""Figures of what a network looks at over all rows."""

from __future__ import annotations

import re
from dataclasses import replace

import made
import numpy as np

from src.explain.global_view import figures
from src.explain.overall import Dependence, Importance
from src.runs.compare.curves import INK


def shown_in(svg: str) -> list[str]:
    """Return the texts of an SVG, as they stand in it."""
    return [text.strip() for text in re.findall(r"<text[^>]*>(.*?)</text>", svg, re.DOTALL)]


def test_importances_come_by_their_drop_with_whiskers() -> None:
    (title, svg), *_ = figures(made.overall())
    assert title.startswith("What r2 loses where a column is shuffled among 500 validation rows; it is 0.873.")
    assert "over 10 shuffles; the first 15 of 18 columns" in title
    names = [text for text in shown_in(svg) if text[0].isalpha() and text != "drop of r2"]
    assert names == [
        "GrLivArea",
        "Neighborhood with a\N{HORIZONTAL ELLIPSIS}",
        "YrSold",
        *map("Other{}".format, range(12)),
    ]
    assert "LineCollection" in svg


def test_dependence_of_numbers_categories_and_dates() -> None:
    _, (area, numbers), (_, towns), (_, dates) = figures(made.overall())
    assert area == "GrLivArea: the number where all rows have one value of it; thick the mean, thin single rows"
    assert numbers.count("stroke-opacity: 0.25") == 50
    assert len(re.findall(r"stroke: #2c7bb6; stroke-width: 2.5", numbers)) == 1
    assert {"NridgHt", "$NAmes$"} <= set(shown_in(towns))
    assert {"2004", "2010"} <= set(shown_in(dates))


def test_colours_are_the_pages_own() -> None:
    for _, svg in figures(made.overall()):
        assert svg.startswith("<svg")
        assert "currentColor" in svg
        assert INK not in svg


def test_what_is_no_number_is_left_out() -> None:
    unknown = Importance("Unknown", np.nan, (np.nan, np.nan))
    (title, svg), *_ = figures(
        replace(made.overall(), score=np.nan, importances=(unknown, Importance("x", 0.1, (0, 1))))
    )
    assert "it is not known." in title
    assert {"x", "Unknown"} & set(shown_in(svg)) == {"x"}
    assert "nan" not in svg.lower()
    (_, svg), *_ = figures(replace(made.overall(), importances=(unknown,)))
    assert "Unknown" not in svg


def test_names_are_escaped_and_of_a_class_its_probability_is_shown() -> None:
    evil = "<script>&$"
    few = replace(
        made.overall(),
        target="large",
        importances=(Importance(evil, 0.1, (0.1, 0.1)),),
        dependences=(Dependence(evil, (evil, "b"), None, np.zeros((1, 2))),),
    )
    (title, first), (of_class, second) = figures(few)
    assert "first" not in title
    assert "the probability of large" in of_class
    assert "<script" not in first + second
    assert "&lt;script&gt;&amp;$" in shown_in(first)
