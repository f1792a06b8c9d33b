"""Learning curves as SVG to stand in a page: no file beside it, no script, colours of the page's own theme."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from src.runs import records

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#999933")
"""Okabe and Ito's, which the colour-blind tell apart, without those too pale for one of the themes."""
INK = "#010203"
"""Stands in the image for the page's text colour."""
STYLE = {
    "svg.fonttype": "none",  # text stays text: smaller, searchable, in the page's font
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}

Curve = tuple[np.ndarray, np.ndarray]
"""Epochs and values."""


def read(run: Path) -> dict[str, Curve]:
    """Return each metric of a run over epochs; of several values in an epoch, the k-th of n is at epoch - 1 + k/n.

    Epoch 0 is before training.
    """
    points: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for epoch, _, name, value in records.metrics(run):
        points[name][epoch].append(value)
    found: dict[str, Curve] = {}
    for name, epochs in points.items():
        pairs = [
            (epoch - 1 + (k + 1) / len(values) if epoch else 0.0, value)
            for epoch, values in sorted(epochs.items())
            for k, value in enumerate(values)
        ]
        x, y = zip(*pairs, strict=True)
        found[name] = (np.array(x), np.array(y))
    return found


def mean(curves: Sequence[Curve]) -> Curve:
    """Return the mean where every curve has a point: where one has ended, it would be the mean of others."""
    common = sorted(set.intersection(*(set(x.tolist()) for x, _ in curves)))
    values = [y[np.isin(x, common)] for x, y in curves]
    return np.array(common), np.mean(values, axis=0)


def draw(groups: Sequence[Sequence[Curve]], colours: Sequence[str], *, label: str, unique: str) -> str:
    """Return an SVG element: a thin line for each run, a thick one for the mean of each group.

    Args:
        groups: the curves of each group's runs, at least one in all; a group without any has no line.
        colours: of each group.
        label: of the vertical axis.
        unique: makes ids within the element unlike those of other images in the page.
    """
    style: Any = STYLE | {"svg.hashsalt": unique}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(5.2, 3.0), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for curves, colour in zip(groups, colours, strict=True):
            if len(curves) > 1:
                for x, y in curves:
                    axes.plot(x, y, color=colour, linewidth=0.7, alpha=0.45)
            if curves:
                x, y = mean(curves)
                axes.plot(x, y, color=colour, linewidth=2, marker="o" if len(x) < 8 else None, markersize=4)
        axes.set_xlabel("epoch")
        axes.set_ylabel(label.replace("$", r"\$"))  # else mathematics to matplotlib
        axes.grid(alpha=0.15, color=INK)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.ticklabel_format(axis="y", useOffset=False)  # 0.59652, not 5.2 and a small 1e-5+5.965e-1 in the corner
        last = max(x[-1] for curves in groups for x, _ in curves)
        axes.set_xlim(-0.03 * last, 1.03 * last)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :].replace(INK, "currentColor")
