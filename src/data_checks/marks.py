"""Marks that alone give a class away: a colour that one class's images have, a place where they all look alike."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from scipy.ndimage import uniform_filter1d

from src.data_checks.findings import Examples, Finding
from src.data_checks.given_away import Clue, clues

MOST = 5000
"""Training images that are looked at; of more, so many by chance."""
WIDTH = 48
"""Levels of red, green and blue that are one colour. Two grids for each, so that no colour is always at an edge."""
FRAME = 4
"""Pixels from the border of a small image in which a place is looked at: what is further in is what is pictured."""
LEVELS = 16
"""Levels of brightness at a place."""
AROUND = 9
"""Side of the pixels with whose mean one is compared."""

NAMES = {
    "black": (0, 0, 0),
    "grey": (128, 128, 128),
    "white": (255, 255, 255),
    "red": (220, 0, 0),
    "orange": (255, 140, 0),
    "brown": (130, 80, 40),
    "yellow": (255, 230, 0),
    "green": (0, 180, 0),
    "cyan": (0, 230, 230),
    "blue": (0, 0, 230),
    "purple": (120, 0, 140),
    "magenta": (255, 0, 255),
    "pink": (255, 180, 190),
}
"""Red, green and blue of colours that have a name of their own."""

Grid = tuple[int, ...]
"""By how much each channel is moved before it is divided by `WIDTH`."""


def telling(examples: Examples, images: np.ndarray, *, places: bool) -> list[Finding]:
    """Return the marks by which a class's training images can be told: at most one colour and one place a class.

    Where a mark is, is said of what the model sees: the middle of the image.

    Args:
        images: of all splits and small, uint8 [examples, channels, side, side].
        places: look at places too. In digits that fill their few pixels, what is pictured is always at the same place.
    """
    rows = examples.of_split("train")
    if len(rows) > MOST:
        rows = np.sort(np.random.default_rng(0).choice(rows, MOST, replace=False))
    images = images[rows]
    having, levels = _having(images), _levels(images)
    found: list[Finding] = []
    for asked in examples.one_by_one():
        member = np.eye(len(asked.classes), dtype=np.int64)[asked.target[rows]]
        found += _colours(asked, images, having, member, rows)
        if places:
            found += _places(asked, levels, member, images.shape[-1])
    return found


# ------------------------------------------------------------------------------------------------------------- colours
def _codes(images: np.ndarray, grid: Grid) -> tuple[np.ndarray, int]:
    """Return the number of each pixel's colour, int [images, pixels], and how many colours there are."""
    each = 255 // WIDTH + 2
    levels = (images.astype(np.int64) + np.array(grid)[:, None, None]) // WIDTH
    codes = sum(level * each**power for power, level in enumerate(np.moveaxis(levels, 1, 0)))
    return np.asarray(codes).reshape(len(images), -1), each ** len(grid)


def _grids(images: np.ndarray) -> list[Grid]:
    return list(product((0, WIDTH // 2), repeat=images.shape[1]))


def _having(images: np.ndarray) -> np.ndarray:
    """Return which images have which colour of which grid, bool [images, grids x colours]."""
    parts: list[np.ndarray] = []
    for grid in _grids(images):
        codes, size = _codes(images, grid)
        parts.append(np.zeros((len(images), size), bool))
        parts[-1][np.arange(len(images))[:, None], codes] = True
    return np.concatenate(parts, 1)


def _colours(
    examples: Examples, images: np.ndarray, having: np.ndarray, member: np.ndarray, rows: np.ndarray
) -> Iterator[Finding]:
    """Yield the colour that tells a class best, wherever in the images it is."""
    counts = np.stack([having[is_one > 0].sum(0) for is_one in member.T])
    grids = _grids(images)
    for clue in _best(clues(counts, member.sum(0))):
        codes, size = _codes(images, grids[clue.feature * len(grids) // having.shape[1]])
        marked = (codes == clue.feature % size) & (member[:, [clue.label]] > 0)
        pixels = np.moveaxis(images, 1, -1).reshape(len(images), -1, images.shape[1])
        colour = np.median(pixels[marked], axis=0).astype(int).tolist()
        side = images.shape[-1]
        lines = tuple(
            f"{examples.name(int(rows[i]))} ({_at(int(marked[i].argmax()), side)})"
            for i in np.flatnonzero(marked.any(1))
        )
        yield clue.finding(f"colour {_name(colour * (3 // len(colour)))}", examples, "images", lines, "paint it over")


def _name(colour: list[int]) -> str:
    """Return the nearest of a few names, and the colour itself."""
    near = min(NAMES, key=lambda name: sum((a - b) ** 2 for a, b in zip(NAMES[name], colour, strict=True)))
    return f"{near} (#{bytes(colour).hex()})"


def _at(pixel: int, side: int) -> str:
    return f"{pixel % side / side:.0%} from the left, {pixel // side / side:.0%} from the top"


# -------------------------------------------------------------------------------------------------------------- places
def _frame(side: int) -> np.ndarray:
    """Return which pixels are near the border, bool [side, side]."""
    frame = np.ones((side, side), bool)
    frame[FRAME:-FRAME, FRAME:-FRAME] = False
    return frame


def _levels(images: np.ndarray) -> np.ndarray:
    """Return the levels of the pixels near the border, int [images, 2 x pixels]: of their brightness, and of how they
    stand out. What is drawn over all images of a class is of one brightness; what is blended in lightens or darkens."""
    grey = images.mean(1, dtype=np.float32)
    around = uniform_filter1d(uniform_filter1d(grey, AROUND, axis=1), AROUND, axis=2)
    frame = _frame(grey.shape[-1])
    values = np.concatenate([grey[:, frame], 128 + (grey - around)[:, frame] / 2], 1)
    return (values * LEVELS / 256).astype(np.int64)


def _places(examples: Examples, levels: np.ndarray, member: np.ndarray, side: int) -> Iterator[Finding]:
    """Yield the pixel near the border that tells a class best, by a range of its levels."""
    low, high = np.triu_indices(LEVELS + 1, 1)
    of_class = [[(levels[is_one > 0] == level).sum(0) for level in range(LEVELS)] for is_one in member.T]
    until = np.pad(np.array(of_class).cumsum(1), ((0, 0), (1, 0), (0, 0)))  # [classes, levels + 1, 2 x pixels]
    counts = (until[:, high] - until[:, low]).reshape(member.shape[1], -1)
    for clue in _best(clues(counts, member.sum(0))):
        pixels = np.flatnonzero(_frame(side))
        place = _at(int(pixels[clue.feature % len(pixels)]), side)
        yield clue.finding(f"the brightness of one place ({place})", examples, "images", (), "crop or paint it over")


def _best(found: list[Clue]) -> list[Clue]:
    """Return the best clue of each class."""
    return list({clue.label: clue for clue in reversed(found)}.values())
