"""What the page draws of the numbers: PNGs as data URIs, points of SVG lines, and shares of a bar's width."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image
from scipy.ndimage import center_of_mass, label

from src.explain.explanation import COLOURS

AGAINST, NEITHER, FOR = "#2c7bb6", "#f7f7f7", "#e08214"
"""Blue and orange, which people with any kind of colour vision tell apart."""
DIVERGING = LinearSegmentedColormap.from_list("against, for", [AGAINST, NEITHER, FOR])
SLIGHT = 0.01
"""Share of a map's largest value from which on its least one is drawn as speaking against the answer."""
THUMBNAIL = 128
"""Longest side of a neighbour's image in the page, in pixels."""
PLACES = (("upper left", "top", "upper right"), ("left", "centre", "right"), ("lower left", "bottom", "lower right"))


def data_uri(image: Image.Image) -> str:
    """Return an image as a URI that holds all of it."""
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def thumbnail(image: np.ndarray) -> str:
    """Return the URI of an image, uint8 [height, width, 3], that is made smaller where it is large."""
    small = Image.fromarray(image)
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    return data_uri(small)


@dataclass(frozen=True)
class DrawnMap:
    """A map as an image, and what its colours mean."""

    uri: str
    low: float
    high: float
    bar: str
    """CSS gradient from `low` to `high`."""


def positive_map(values: np.ndarray) -> DrawnMap:
    """Draw what speaks for the answer of a map [height, width], in the colours of `Explanation.picture`."""
    return _drawn(np.clip(values, 0, None), 0.0, float(max(values.max(), 0)), colormaps[COLOURS])


def whole_map(values: np.ndarray) -> DrawnMap:
    """Draw a map [height, width]; where parts of it speak against the answer, they are blue and the others orange."""
    largest = float(np.abs(values).max())
    if values.min() >= -SLIGHT * largest:
        return positive_map(values)
    return _drawn(values, -largest, largest, DIVERGING)


def _drawn(values: np.ndarray, low: float, high: float, colours: Colormap) -> DrawnMap:
    steps = np.clip(255 * (values - low) / max(high - low, 1e-12), 0, 255).round().astype(np.uint8)
    image = Image.fromarray(steps)
    palette = (255 * colours(np.arange(256))[:, :3]).round().astype(np.uint8)
    image.putpalette(palette.tobytes())
    stops = ", ".join("#{:02x}{:02x}{:02x}".format(*palette[step]) for step in range(0, 256, 15))
    return DrawnMap(data_uri(image), low, high, f"linear-gradient(to right, {stops})")


def place(values: np.ndarray) -> str:
    """Return where a map [height, width] is strongest, such as 'strongest at the top'; '' where nothing is above 0.

    It is the middle of the highest area that hangs together: of two spots the higher one, not what lies between them.
    """
    if values.max() <= 0:
        return ""
    labelled: Any = label(values == values.max())
    plateaus = labelled[0]
    middle = center_of_mass(plateaus == plateaus[np.unravel_index(values.argmax(), values.shape)])
    row, column = (int(3 * (mean + 0.5) / side) for mean, side in zip(middle, values.shape, strict=True))
    return f"strongest at the {PLACES[min(row, 2)][min(column, 2)]}"


@dataclass(frozen=True)
class Scale:
    """Where numbers lie along a line from `low` to `high`."""

    low: float
    high: float

    @classmethod
    def around(cls, *values: float) -> Scale:
        """Return the shortest scale with all the values and 0; without any extent, it ends at 1."""
        low, high = min((0.0, *values)), max((0.0, *values))
        return cls(low, high if high > low else low + 1)

    def at(self, value: float) -> float:
        """Return where a number lies, 0 to 100."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)

    def between(self, one: float, two: float) -> tuple[float, float]:
        """Return where the nearer of two numbers lies, and how far the other is from it, in the same unit."""
        return self.at(min(one, two)), round(abs(self.at(one) - self.at(two)), 2)


def polyline(values: Sequence[float], scale: Scale, *, width: float, height: float) -> str:
    """Return the points of an SVG line over an area of that size; the highest number is at its upper edge."""
    places = np.linspace(0, width, len(values))
    return " ".join(
        f"{x:.1f},{height * (1 - scale.at(y) / 100):.1f}" for x, y in zip(places.tolist(), values, strict=True)
    )


def svg_of(figure: Figure | str, unique: str) -> Markup:
    """Return a figure as an SVG element to stand in the page; a string is one already.

    Args:
        unique: makes ids within the element unlike those of the page's other figures.
    """
    if isinstance(figure, str):
        return Markup(figure[figure.index("<svg") :])  # drawn by us
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": unique}):
        FigureCanvasSVG(figure)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return Markup(text[text.index("<svg") :])  # matplotlib escapes its texts
