"""Figures of what a table's run looks at over all rows, to stand in the page."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from src.configs.labels import is_number
from src.explain.overall import Dependence, Importance, Overall
from src.explain.wording import number
from src.runs.compare.curves import INK, STYLE

MOST_BARS = 15
"""Columns whose importance is drawn."""
MOST_LINES = 50
"""Rows whose own lines are drawn, at even distances."""
MOST_NAMED = 8
"""Categories that are named along an axis."""
LONGEST = 20
"""Letters of a name that are shown."""
BARS, MEAN = "#e08214", "#2c7bb6"
"""Both can be told from paper and ink in either theme."""


def figures(overall: Overall) -> list[tuple[str, str]]:
    """Return title and SVG of the importances, of those that are known, and of each column's dependence."""
    known = tuple(each for each in overall.importances if np.isfinite([each.drop, *each.interval]).all())
    overall = replace(overall, importances=known)
    found = [(_title(overall), _importances(overall.importances[:MOST_BARS], overall.metric))]
    what = "the number" if overall.target == "prediction" else f"the probability of {overall.target}"
    for each in overall.dependences:
        title = f"{each.column}: {what} where all rows have one value of it; thick the mean, thin single rows"
        found.append((title, _dependence(each)))
    return found


def _title(overall: Overall) -> str:
    of = f"the first {MOST_BARS} of {len(overall.importances)} columns" if len(overall.importances) > MOST_BARS else ""
    return (
        f"What {overall.metric} loses where a column is shuffled among {overall.rows} validation rows; it is "
        f"{number(overall.score)}. The whisker is the 95 % interval over {overall.repeats} shuffles{of and f'; {of}'}"
    )


def _importances(importances: tuple[Importance, ...], metric: str) -> str:
    drops = np.array([each.drop for each in importances])
    ends = np.array([each.interval for each in importances]).reshape(-1, 2)
    with _drawn(1.0 + 0.24 * len(importances), metric) as (axes, svg):
        places = np.arange(len(importances))
        errors = np.abs(np.stack([drops - ends[:, 0], ends[:, 1] - drops]))
        bars: Any = {"color": BARS, "ecolor": INK, "capsize": 2, "error_kw": {"elinewidth": 1}}
        axes.barh(places, drops, height=0.6, xerr=errors, **bars)
        axes.set_yticks(places, [_short(each.column) for each in importances])
        axes.invert_yaxis()
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(f"drop of {metric}")
    return svg[0]


def _dependence(found: Dependence) -> str:
    with _drawn(2.6, found.column) as (axes, svg):
        named = found.places is None
        places = np.arange(len(found.grid)) if found.places is None else found.places
        rows = np.unique(np.linspace(0, len(found.lines) - 1, min(MOST_LINES, len(found.lines))).round().astype(int))
        axes.plot(places, found.lines[rows].T, color=INK, linewidth=0.5, alpha=0.25)
        axes.plot(places, found.mean, color=MEAN, linewidth=2.5, marker="o" if named else None, markersize=4)
        if named:
            shown = places[:: -(-len(places) // MOST_NAMED)]
            axes.set_xticks(shown, [_short(found.grid[place]) for place in shown], rotation=30, ha="right")
        else:
            axes.plot(places, np.zeros(len(places)), "|", color=INK, markersize=6, transform=axes.get_xaxis_transform())
            if not all(is_number(cell) for cell in found.grid):  # dates are days since 1970, as matplotlib's are
                locator = AutoDateLocator(minticks=3, maxticks=6)
                axes.xaxis.set_major_locator(locator)
                axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
            else:
                axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(5))
    return svg[0]


@contextmanager
def _drawn(height: float, unique: str) -> Iterator[tuple[Axes, list[str]]]:
    """Yield axes to draw on, and a list that holds the SVG afterwards, in the colours of the page's theme."""
    style: Any = STYLE | {"svg.hashsalt": unique}
    svg: list[str] = []
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(4.6, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure.add_subplot(), svg
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    svg.append(text[text.index("<svg") :].replace(INK, "currentColor"))


def _short(name: str) -> str:
    shown = name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
    return shown.replace("$", r"\$")  # else mathematics to matplotlib
