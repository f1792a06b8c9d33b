"""The animals of `drawn.py`: cats and dogs from nine cues, each a number from 0, as in a cat, to 1, as in a dog."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageChops, ImageDraw

Kind = Literal["cat", "dog"]
Colour = tuple[int, int, int]
Point = tuple[float, float]
Points = NDArray[np.float64]
"""A polygon or a path, (n, 2), in head units: half a head's width is 1, x grows to the right and y down."""

KINDS: tuple[Kind, Kind] = ("cat", "dog")
CUES = ("ears", "muzzle", "skull", "eyes", "nose", "whiskers", "mouth", "tail", "body")
FURS = ("#d98a3d", "#8b8f98", "#7a5236", "#ead9b8", "#35323a", "#f3f0ea", "#c9a06c", "#57423a", "#b5653a", "#5f6773")
IRISES = ("#8fbf4d", "#e0b73c", "#6fa8dc", "#a8692f", "#5c3b22")
NOSES = ("#e58c94", "#3a2d2f", "#7a4a44", "#c7747c")
PINK: Colour = (236, 130, 140)
WHITE: Colour = (255, 255, 255)
CIRCLE: Points = np.stack([f(np.linspace(0, 2 * np.pi, 32, endpoint=False)) for f in (np.cos, np.sin)], axis=1)
ALONG: Points = np.linspace(0, 1, 20)[:, None]
POSES = {"bust": (0.21, 0.3, 0.5, 0.48), "sit": (0.15, 0.19, 0.48, 0.3), "stand": (0.14, 0.18, 0.27, 0.38)}
"""Least and greatest head unit, and the head's middle (x, y), as shares of the image's side."""


# ---------------------------------------------------------------------------------------------- colours and curves
def one_of(codes: Sequence[str], rng: np.random.Generator) -> Colour:
    """One of several `"#rrggbb"`, as three bytes."""
    red, green, blue = bytes.fromhex(codes[int(rng.integers(len(codes)))][1:])
    return (red, green, blue)


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """`a` with a `share` of `b` in it."""
    red, green, blue = (round(p + (q - p) * share) for p, q in zip(a, b, strict=True))
    return (red, green, blue)


def any_colour(rng: np.random.Generator) -> Colour:
    """Any colour, softened."""
    red, green, blue = rng.integers(35, 235, 3).tolist()
    return mix((red, green, blue), (150, 150, 150), rng.uniform(0.3, 0.8))


def fur_colour(rng: np.random.Generator) -> Colour:
    """One of the coats that cats and dogs share, jittered."""
    return mix(one_of(FURS, rng), any_colour(rng), rng.uniform(0, 0.25))


def between(cat: float, dog: float, cue: float) -> float:
    """A length that is `cat` at cue 0 and `dog` at cue 1."""
    return cat + (dog - cat) * cue


def ellipse(x: float, y: float, rx: float, ry: float) -> Points:
    """A closed polygon (32, 2)."""
    return CIRCLE * (rx, ry) + (x, y)


def smooth(corners: ArrayLike) -> Points:
    """Round a closed polygon by cutting its corners thrice (Chaikin 1974); a corner given twice stays sharper."""
    points = np.asarray(corners, dtype=np.float64)
    for _ in range(3):
        after = np.concatenate([points[1:], points[:1]])
        points = np.hstack([0.75 * points + 0.25 * after, 0.25 * points + 0.75 * after]).reshape(-1, 2)
    return points


def symmetric(half: list[Point]) -> Points:
    """The smooth closed shape whose right half has these corners, from top to bottom."""
    return smooth(half + [(-x, y) for x, y in reversed(half)])


def curve(start: ArrayLike, pull: ArrayLike, end: ArrayLike) -> Points:
    """A quadratic Bezier path (20, 2)."""
    back = 1 - ALONG
    return back**2 * np.asarray(start) + 2 * ALONG * back * np.asarray(pull) + ALONG**2 * np.asarray(end)


def limb(path: Points, first: float, last: float) -> Points:
    """The closed outline of a limb along `path` (n, 2), `first` to `last` half-widths thick, with a round end."""
    along = np.gradient(path, axis=0)
    across = along[:, ::-1] * (-1, 1) / (np.linalg.norm(along, axis=1, keepdims=True) + 1e-9)
    t = np.linspace(0, 1, len(path))[:, None]
    across *= (first + (last - first) * t) * np.sqrt(np.clip((1.02 - t) / 0.14, 0, 1))
    return np.concatenate([path + across, (path - across)[::-1]])


# ------------------------------------------------------------------------------------------------------- the tools
@dataclass(frozen=True)
class Brush:
    """Paints shapes given in head units on `image`."""

    image: Image.Image
    coat: Image.Image
    """The fur as it looks in light, as large as `image`; parts of the animal are cut out of it."""
    shade: Image.Image
    """The same fur in shadow."""
    place: NDArray[np.float64]
    """(2, 3): head units to pixels."""
    ink: Colour
    line_px: int
    light_px: tuple[int, int]
    """How far, and to where, the lit part of a shape is displaced."""

    def pixels(self, points: Points) -> list[Point]:
        return [(x, y) for x, y in (points @ self.place[:, :2].T + self.place[:, 2]).tolist()]

    def fill(self, points: Points, colour: Colour) -> None:
        ImageDraw.Draw(self.image).polygon(self.pixels(points), fill=colour)

    def stroke(self, path: Points, colour: Colour, width: float = 1.0) -> None:
        ImageDraw.Draw(self.image).line(self.pixels(path), fill=colour, width=max(1, round(width * self.line_px)))

    def fur(self, *shapes: Points, tint: Colour | None = None, outline: bool = True) -> None:
        """Paint the union of `shapes` with fur, or with fur dyed to `tint`, shaded on the side away from the light."""
        mask, lit = Image.new("L", self.image.size), Image.new("L", self.image.size)
        dx, dy = self.light_px
        for pixels in map(self.pixels, shapes):
            ImageDraw.Draw(mask).polygon(pixels, fill=255)
            ImageDraw.Draw(lit).polygon([(x + dx, y + dy) for x, y in pixels], fill=255)
            if outline:  # the inner half of each line is painted over below, and so are lines inside the union
                ImageDraw.Draw(self.image).line([*pixels, *pixels[:2]], fill=self.ink, width=2 * self.line_px)
        box = mask.getbbox()
        if box is None:  # all of it lies outside the image
            return
        mask, lit = mask.crop(box), lit.crop(box)
        self.image.paste(self.shade.crop(box) if tint is None else mix(tint, self.ink, 0.22), box, mask)
        self.image.paste(self.coat.crop(box) if tint is None else tint, box, ImageChops.darker(mask, lit))

    def turned(self, degrees: float) -> Brush:
        """A brush turned about the origin."""
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        return replace(self, place=self.place @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]))


@dataclass(frozen=True)
class Gaze:
    """Where the head looks (radians), and with it where the points of a ball-like face land on the image."""

    yaw: float
    pitch: float

    def at(self, x: float, y: float, lift: float = 0.0) -> Point:
        """The point (x, y) of the face, or one `lift` in front of it."""
        depth = np.sqrt(max(0.05, 1 - x * x - y * y)) + lift
        return float(x * np.cos(self.yaw) + depth * np.sin(self.yaw)), float(y + depth * np.sin(self.pitch))

    def squeeze(self, x: float, y: float) -> float:
        """How narrow a thing at (x, y) looks: 1 seen straight, below 0 behind the head."""
        return float(np.cos(self.yaw) - np.sin(self.yaw) * x / np.sqrt(max(0.05, 1 - x * x - y * y)))


# ------------------------------------------------------------------------------------------------------ the animal
def draw_cues(kind: Kind, rng: np.random.Generator) -> dict[str, float]:
    """What each cue says, 0 (cat) to 1 (dog): none to three of them are doubtful or wrong."""
    odd = rng.choice(CUES, size=rng.choice(4, p=(0.15, 0.3, 0.3, 0.25)), replace=False).tolist()
    ranges = {cue: (0.4, 0.8) if cue in odd else (0.0, 0.34) for cue in CUES}
    if "ears" in odd:  # a cat's may fold and a dog's may stand, but then the rest is plain, or nobody could tell
        ranges = dict.fromkeys(CUES, (0.0, 0.25)) | {"ears": (0.4, 0.61)}
    cues = {cue: rng.uniform(*ranges[cue]) for cue in CUES}
    return cues if kind == "cat" else {cue: 1 - value for cue, value in cues.items()}


def paint_ears(brush: Brush, gaze: Gaze, cue: float, inner: Colour, tint: Colour | None) -> None:
    """Ears that stand (cue below 0.45), fold over (below 0.65) or hang."""
    hollow = smooth([(0.86, -0.4), (0.86, -0.65), (0.76, -1.2), (0.76, -1.2), (0.56, -1.0), (0.35, -0.6)])
    if cue < 0.45:
        (x, y), blunt = (0.8 - 0.2 * cue, -1.42 - 0.2 * cue), max(0.0, cue - 0.36) * 2.5  # a dog's are rounder
        rim = [(x + blunt, y + blunt), (x, y), (x, y), (x - blunt, y)]
        corners = [(0.98, -0.1), (0.98, -0.6), *rim, (0.5, -1.1), (0.12, -0.6)]
    elif cue < 0.65:
        corners = [(0.3, -0.75), (0.45, -1.12), (0.8, -1.15), (1.2, -0.5), (1.2, -0.5), (0.8, -0.55), (0.75, -0.5)]
    else:
        low = 0.1 + 2.2 * (cue - 0.65)
        corners = [(0.38, -0.85), (0.8, -1), (1.2, -0.5), (1.38, low), (1.05, low + 0.4), (0.8, low), (0.78, -0.3)]
    for side in (-1, 1):
        turn, shift = (side * np.cos(gaze.yaw), 1.0), (-0.25 * np.sin(gaze.yaw), 0)
        brush.fur(smooth(corners) * turn + shift, tint=tint)
        if cue < 0.45:
            brush.fill(hollow * turn + shift, inner)


def paint_eyes(brush: Brush, gaze: Gaze, cue: float, rng: np.random.Generator) -> None:
    """Almond eyes with slits to round eyes with round pupils; sometimes shut."""
    size, apart, shut, iris = rng.uniform(0.2, 0.27), rng.uniform(0.4, 0.47), rng.random() < 0.07, one_of(IRISES, rng)
    for side in (-1, 1):
        x, y = gaze.at(side * apart, -0.16)
        squeeze = gaze.squeeze(side * apart, -0.16)
        rx, ry = size * squeeze, size * between(0.78, 0.95, cue)
        if squeeze < 0.25:
            continue
        if shut:
            brush.stroke(curve((x - rx, y), (x, y + ry), (x + rx, y)), brush.ink, 1.2)
            continue
        outer, inner = (x + 1.25 * side * rx, y - 0.35 * ry), (x - 1.25 * side * rx, y + 0.25 * ry)
        lids = [curve(outer, (x, y - 2 * ry), inner), curve(inner, (x, y + 1.9 * ry), outer)]
        ball = np.concatenate(lids) if cue < 0.5 else ellipse(x, y, rx, ry)
        brush.fill((ball - (x, y)) * 1.2 + (x, y), brush.ink)
        brush.fill(ball, iris)
        brush.fill(ellipse(x, y, rx * between(0.16, 0.8, cue), ry * 0.86), (22, 18, 22))
        brush.fill(ellipse(x - 0.25 * rx, y - 0.35 * ry, 0.07, 0.07), WHITE)


def paint_muzzle(brush: Brush, gaze: Gaze, cues: dict[str, float], pale: Colour, rng: np.random.Generator) -> None:
    """Muzzle, mouth, tongue and nose."""
    length, wide = between(0.06, 0.8, cues["muzzle"]), between(0.28, 0.48, cues["muzzle"])
    lifts = (0.0, length / 2, length)
    snout = [ellipse(*gaze.at(0, 0.36, d), wide * 1.15 - 0.12 * d, wide - 0.1 * d) for d in lifts]
    cheeks = [ellipse(*gaze.at(side * 0.2, 0.42, length), 0.25, 0.21) for side in (-1, 1)]
    x, y = gaze.at(0, 0.22 + 0.04 * cues["muzzle"], length + 0.05)
    low, half = y + between(0.3, 0.42, cues["mouth"]), between(0.2, 0.36, cues["mouth"])
    if rng.random() < between(0.02, 0.6, cues["mouth"]):
        brush.fur(smooth([(x - 0.13, low), (x + 0.13, low), (x + 0.16, low + 0.4), (x - 0.12, low + 0.42)]), tint=PINK)
    brush.fur(*(snout if length > 0.25 else cheeks), tint=pale, outline=length > 0.25)
    if rng.random() < 0.9:
        brush.stroke(curve((x, y), (x, y), (x, low - 0.05)), brush.ink)
        for dx in (-half, half):
            brush.stroke(curve((x, low - 0.08), (x + dx * 0.5, low + 0.12), (x + dx, low - 0.1)), brush.ink)
    colour, wide = one_of(NOSES, rng), between(0.11, 0.27, cues["nose"])
    triangle = smooth(np.repeat([(x - wide, y - 0.07), (x + wide, y - 0.07), (x, y + 0.13)], 2, axis=0))
    brush.fill(triangle if cues["nose"] < 0.5 else ellipse(x, y, wide, wide * 0.72), colour)
    brush.fill(ellipse(x - wide * 0.3, y - wide * 0.25, wide * 0.25, wide * 0.15), mix(colour, WHITE, 0.6))
    paint_whiskers(brush, gaze, length, cues["whiskers"], rng)


def paint_whiskers(brush: Brush, gaze: Gaze, length: float, cue: float, rng: np.random.Generator) -> None:
    """Long whiskers, shorter ones, or only the dots they grow from, on a muzzle of that `length`; sometimes nothing."""
    reach, hair = between(1.05, -0.25, cue), brush.ink if rng.random() < 0.5 else mix(brush.ink, WHITE, 0.9)
    if rng.random() < 0.1:
        return
    for side in (-1, 1):
        x, y = gaze.at(side * 0.3, 0.42, length)
        for rise in (-0.34, -0.02, 0.3):
            if reach > 0.3:
                pull = (x + side * reach * 0.5, y + rise * 0.4 - 0.05)
                brush.stroke(curve((x, y), pull, (x + side * reach, y + rise)), hair, 0.6)
            else:
                brush.fill(ellipse(x - side * rise * 0.15, y + rise * 0.3, 0.035, 0.035), brush.ink)


def paint_head(brush: Brush, cues: dict[str, float], pale: Colour, rng: np.random.Generator) -> None:
    """The head, about the origin."""
    gaze, cue = Gaze(rng.uniform(-0.84, 0.84), rng.uniform(-0.14, 0.21)), cues["skull"]
    wide, tall, cheek = between(1.1, 0.95, cue), between(0.89, 1.06, cue), between(0.17, 0.0, cue)
    skull = symmetric([(0, -tall), (0.64, -tall * 0.95), (wide, -0.3), (wide + cheek, 0.37), (0.69, tall), (0, tall)])
    ears = (cues["ears"], mix(PINK, pale, 0.4), mix(fur_colour(rng), pale, 0.2) if rng.random() < 0.35 else None)
    if cues["ears"] < 0.45:  # standing ears are behind the skull, others before it
        paint_ears(brush, gaze, *ears)
    brush.fur(skull)
    if rng.random() < 0.3:  # a blaze between the eyes
        brush.fill(symmetric([(0.1, -0.5), (0.28, 0.7)]) + gaze.at(0, -0.3), pale)
    if cues["ears"] >= 0.45:
        paint_ears(brush, gaze, *ears)
    paint_eyes(brush, gaze, cues["eyes"], rng)
    paint_muzzle(brush, gaze, cues, pale, rng)


def paint_tail(brush: Brush, x: float, y: float, cue: float, rng: np.random.Generator) -> None:
    """A long thin tail with a hook, or a short thick one that tapers, rooted at (x, y)."""
    reach, bend = between(1.5, 0.9, cue), float(rng.choice((-0.5, 0.5)))
    tip = (x + reach, y - rng.uniform(0.4, 1.6))
    path = curve((x, y), (x + reach * 0.9, y + between(0.5, -0.1, cue)), tip)
    if cue < 0.5:
        path = np.concatenate([path, curve((0, 0), (0.1, -0.6), (bend, -0.6))[1:] + tip])
    brush.fur(limb(path, between(0.15, 0.34, cue), 0.125))


def paint_body(brush: Brush, pose: str, cues: dict[str, float], pale: Colour, rng: np.random.Generator) -> None:
    """A bust, an animal that sits, from the front, or one that stands, from the side; the head is painted over it."""
    cue, thick = cues["body"], between(0.2, 0.27, cues["body"])
    if pose == "bust":
        wide = rng.uniform(0.95, 1.35)
        brush.fur(symmetric([(0.5, 0.3), (wide, 1.5), (wide + 0.2, 4.5)]))
    elif pose == "sit":
        hips = between(1.15, 1.0, cue)
        paint_tail(brush, hips * 0.6, 2.9, cues["tail"], rng)
        brush.fur(*(ellipse(side * hips * 0.75, 2.75, 0.55, 0.62) for side in (-1, 1)))
        brush.fur(symmetric([(0.5, 0.4), (0.85, 1.5), (hips, 2.9), (0.5, 3.2)]))
        if rng.random() < 0.5:
            brush.fur(ellipse(0, 1.5, 0.5, 0.75), tint=pale, outline=False)
        for side in (-1, 1):
            brush.fur(limb(curve((side * 0.38, 1.8), (side * 0.42, 2.4), (side * 0.4, 3.3)), thick, thick + 0.03))
            brush.fur(ellipse(side * 0.42, 3.25, thick + 0.1, 0.17), tint=pale)
    else:
        long, belly, floor = between(3.0, 2.7, cue), between(1.85, 1.7, cue), between(2.65, 3.0, cue)
        paint_tail(brush, long - 0.1, 1.0, cues["tail"], rng)
        for hip in (0.35, long - 0.45):
            for step in (rng.uniform(-0.3, 0), rng.uniform(0.1, 0.5)):
                brush.fur(limb(curve((hip, 1.2), (hip, 2.0), (hip + step, floor)), thick + 0.08, thick))
        back = [(-0.3, 0.1), (0.5, 0.2), (long, 0.55), (long + 0.25, 1.2)]
        brush.fur(smooth([*back, (long - 0.4, 1.75), (1.4, belly), (0.2, 1.95), (-0.3, 1.2)]))
