"""Figures and texts of an evaluation, for TensorBoard."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from textwrap import wrap

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from src.tasks.objectives.calibration import calibration_error, reliability

MOST_LETTERS = 1000
MOST_NAMES = 50
"""Classes up to which a confusion matrix is labelled, and kept in the record."""
CARD = (5.2, 3.0)
"""Inches. TensorBoard scales a figure to a card of 370 x 215 pixels, where ten points then are ten pixels."""
DPI = 200
"""For who looks at it in its actual size."""


def plain(text: str) -> str:
    """Return text as matplotlib has to be given it, to which dollars enclose mathematics."""
    return text.replace("$", r"\$")


def of_card_size(width: float = CARD[0], height: float = CARD[1]) -> Figure:
    """Return an empty figure, in inches, for a card of TensorBoard."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def draw_confusion(counts: np.ndarray, classes: Sequence[str]) -> Figure:
    """Draw counts, shaded by the share of the true class."""
    height = min(max(CARD[1], 0.9 + 0.25 * len(classes)), 20)
    figure = of_card_size(height * 1.2, height)
    axes = figure.subplots()
    axes.imshow(counts / counts.sum(1, keepdims=True).clip(1), cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= MOST_NAMES:
        names = [plain(name) for name in classes]
        longest = max(map(len, names))
        size = 10 if len(classes) <= 5 else 8
        axes.set_xticks(range(len(classes)), names, rotation=90 if longest * len(classes) > 25 else 0, fontsize=size)
        axes.set_yticks(range(len(classes)), names, fontsize=size)
    axes.set(xlabel="predicted", ylabel="true")
    if len(classes) <= 30:
        for row, column in np.ndindex(counts.shape):
            dark = counts[row, column] > counts[row].sum() / 2
            color, size = "white" if dark else "black", 10 if len(classes) <= 5 else 7
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=color, fontsize=size)
    return figure


def draw_reliability(before: np.ndarray, after: np.ndarray, target: np.ndarray, temperature: float) -> Figure:
    """Draw the accuracy of each bin of confidence, before and after temperature scaling (Guo et al. 2017, figure 4); in
    grey the share of the examples in each.

    Args:
        before, after: probabilities, [examples, classes].
        target: [examples].
        temperature: between the two.
    """
    figure = of_card_size()
    sides = zip(figure.subplots(1, 2), ("before", f"temperature {temperature:.3g}"), (before, after), strict=True)
    for axes, title, prob in sides:
        count, mean, accuracy = reliability(prob, target)
        there = count > 0
        axes.bar((np.arange(len(count)) + 0.5) / len(count), count / count.sum(), 1 / len(count), color="lightgray")
        axes.plot([0, 1], [0, 1], color="black", linewidth=1)
        axes.plot(mean[there], accuracy[there], marker="o", markersize=4)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy")
        axes.set_title(f"{title}: ECE {calibration_error(prob, target):.4f}", fontsize=9)
    return figure


def write_texts(texts: Sequence[str], titles: Sequence[str]) -> str:
    """Return Markdown: each text, its middle left out where it is long, below its title."""
    shown = (
        text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS // 2]} ... {text[-MOST_LETTERS // 2 :]}"
        for text in texts
    )
    return "\n\n".join(f"**{title}**\n\n{html.escape(text)}" for title, text in zip(titles, shown, strict=True))


def draw_images(images: Tensor, titles: Sequence[str]) -> Figure:
    """Draw uint8 images [count, channels, height, width] in rows of four, each with its title."""
    rows = -(-len(titles) // 4)
    figure = of_card_size(height=CARD[1] / 2 * max(rows, 2))
    for axes in figure.subplots(rows, 4, squeeze=False).flat:
        axes.set_axis_off()
    for axes, image, title in zip(figure.axes, images, titles, strict=False):
        axes.imshow(image.permute(1, 2, 0).numpy().squeeze(), cmap="gray")
        axes.set_title(plain("\n".join(wrap(title, 18)[:3])), fontsize=8)
    return figure


def draw_regression(target: np.ndarray, prediction: np.ndarray, name: str, ends: np.ndarray | None = None) -> Figure:
    """Draw predictions over true values and residuals over predictions.

    Args:
        target, prediction: [examples], in the units of `name`.
        name: of what is predicted.
        ends: lower and upper ends of the intervals, [2, examples].
    """
    figure, name = of_card_size(), plain(name)
    left, right = figure.subplots(1, 2)
    if ends is not None:
        left.vlines(target, *ends, color="tab:blue", alpha=0.15, linewidth=1)
    left.scatter(target, prediction, s=8, alpha=0.6)
    span = [min(target.min(), prediction.min()), max(target.max(), prediction.max())]
    left.plot(span, span, color="black", linewidth=1)
    left.set(xlabel=f"true {name}", ylabel=f"predicted {name}")
    right.scatter(prediction, target - prediction, s=8, alpha=0.6)
    right.axhline(0, color="black", linewidth=1)
    right.set(xlabel=f"predicted {name}", ylabel="true - predicted")
    for axes in (left, right):
        axes.tick_params(labelsize=8)
        axes.ticklabel_format(scilimits=(-3, 4), useMathText=True)
        axes.locator_params(nbins=4)
    return figure


def draw_label_scores(labels: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw precision, recall and F1 of each label, the rarest first, at most `MOST_NAMES` of them."""
    order = sorted(labels, key=lambda name: labels[name]["support"])[:MOST_NAMES]
    figure = of_card_size(height=max(CARD[1], 1 + 0.35 * len(order)))
    axes = figure.subplots()
    places = np.arange(len(order))
    for number, name in enumerate(("precision", "recall", "f1")):
        axes.barh(places + 0.27 * (number - 1), [labels[label][name] for label in order], 0.25, label=name)
    axes.set_yticks(places, [f"{plain(label)} ({labels[label]['support']:.0f})" for label in order])
    axes.set(xlim=(0, 1))
    axes.invert_yaxis()
    figure.legend(loc="outside upper center", ncols=3)
    return figure
