"""What is returned to Python, written to files and shown on the page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from matplotlib import colormaps
from PIL import Image
from scipy.stats import t as student

if TYPE_CHECKING:
    from src.explain.checks import Checks

Kind = Literal["image", "text", "table"]
COLOURS = "cividis"
"""A map that reads the same with any colour vision (Nuñez et al. 2018, https://doi.org/10.1371/journal.pone.0199239)."""


@dataclass(frozen=True, eq=False)
class Neighbour:
    """A training example that the network takes for alike."""

    id: str
    target: str
    similarity: float
    """Cosine of the angle between the features, -1 to 1."""
    shown: np.ndarray | str
    """An image, uint8 [height, width, 3]; the text; or the row's cells, joined."""
    finding: str = ""
    """What is odd about it: the same as the input, of another class than the training examples nearest to it, or what
    the data check said of it."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a run answered an input as it did.

    Attributes:
        id: of the input, as in the predictions.
        kind: of input.
        target: the class or label that is explained; 'prediction' for a number.
        answer: the probability of the target, or the number that is predicted.
        values: how much each part speaks for the target: of an image [height, width], of a text [words], of a row
            [columns].
        names: words of the text, or columns; () for an image.
        error: Monte-Carlo standard error of each value, None where the method draws nothing at random.
        freedom: degrees of freedom of the error.
        image: the image as the network saw it, uint8 [height, width, 3]; None for texts and tables.
        cells: what the row has in each column; () for images and texts.
        quantiles: for each column the share of training rows with a smaller number, or with the same category; NaN
            where there is none.
        expected: the answer that the input came with, '' where there is none.
        neighbours: the training examples that are nearest in the network's features.
        given: of several labels, whether the run gives this one, as `predict` decides; None for one class or a number.
    """

    id: str
    kind: Kind
    target: str
    answer: float
    values: np.ndarray
    names: tuple[str, ...] = ()
    error: np.ndarray | None = None
    image: np.ndarray | None = None
    cells: tuple[str, ...] = ()
    quantiles: tuple[float, ...] = ()
    expected: str = ""
    neighbours: tuple[Neighbour, ...] = ()
    freedom: int = 0
    given: bool | None = None

    @property
    def margin(self) -> np.ndarray:
        """How far each value may be off by the method's own random draws, to each side, with 95 %; 0 where it drew
        nothing. The error is that of few estimates, so the interval is Student's."""
        if self.error is None or not self.freedom:
            return np.zeros(self.values.shape)
        return student.ppf(0.975, self.freedom) * np.nan_to_num(self.error, nan=0, posinf=0, neginf=0)

    def picture(self, share: float = 0.5) -> Image.Image:
        """Return the image under its map, which is opaque by `share`, 0 to 1.

        Raises:
            ValueError: the input is no image.
        """
        if self.image is None:
            raise ValueError(f"{self.id}: a {self.kind} has no picture. See table().")
        values = np.clip(self.values, 0, None)
        coloured = np.asarray(colormaps[COLOURS](values / max(values.max(), 1e-12)))[..., :3]
        return Image.fromarray((255 * share * coloured + (1 - share) * self.image).round().astype(np.uint8))

    def table(self) -> pd.DataFrame:
        """Return the parts and their values, those that count most first; of an image every pixel with row and column.

        The columns are `word` and its `position`, or `column` and its `value` in the row, or `row` and `column`; and
        `attribution`, with `error` where there is one.
        """
        values = self.values.ravel()
        if self.kind == "image":
            rows, columns = np.indices(self.values.shape)
            frame = pd.DataFrame({"row": rows.ravel(), "column": columns.ravel()})
        elif self.kind == "text":
            frame = pd.DataFrame({"position": np.arange(len(values)), "word": self.names})
        else:
            frame = pd.DataFrame({"column": self.names, "value": self.cells})
        frame["attribution"] = values
        if self.error is not None:
            frame["error"] = self.error
        order = np.argsort(-np.abs(values), kind="stable")
        return frame.iloc[order].reset_index(drop=True)

    def _repr_png_(self) -> bytes | None:
        if self.image is None:
            return None
        buffer = io.BytesIO()
        self.picture().save(buffer, "PNG")
        return buffer.getvalue()


class Explanations(Sequence[Explanation]):
    """Explanations of some inputs by one method, and what the checks say of them.

    Attributes:
        method: what it is, in words, such as 'Grad-CAM, blocks.6 (7 x 7)'.
        checks: whether they can be believed.
        errors: id -> why an input has no explanation.
        notes: what was left out, and what else the user should know.
        signed: whether a value says for or against; else how much the network looks there.
        unit: of the values, such as 'probability'; '' where only their order means something.
    """

    def __init__(
        self,
        found: Sequence[Explanation],
        method: str,
        checks: Checks,
        errors: dict[str, str],
        notes: Sequence[str],
        *,
        signed: bool = True,
        unit: str = "",
    ) -> None:
        self.found, self.method, self.checks, self.errors, self.notes = [*found], method, checks, errors, [*notes]
        self.signed, self.unit = signed, unit

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, index):  # pyright: ignore[reportIncompatibleMethodOverride] # int or slice, as of a list
        return self.found[index]

    def __repr__(self) -> str:
        return f"{len(self)} explanations, {self.method}\n" + "\n".join(
            f"{name:<12} {text}" for name, text in self.checks.lines().items()
        )
