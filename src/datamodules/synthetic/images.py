"""Cats and dogs drawn on the spot: the data set for a machine with neither a folder of photographs nor a network.

Every image starts from nine *cues* (ears, muzzle, pupils, tail ...), each a number from 0, as in a cat, to 1, as in
a dog. Most agree with the class and up to three are doubtful, so no single one decides. All else (fur, light,
background, pose, clutter, noise) comes from one distribution for both: colour, brightness and file size tell nothing.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from src.datamodules.synthetic.animals import (
    KINDS,
    POSES,
    WHITE,
    Brush,
    Colour,
    Kind,
    any_colour,
    draw_cues,
    fur_colour,
    mix,
    paint_body,
    paint_head,
)
from src.resources.cache import cache_dir, once, there


# -------------------------------------------------------------------------------------------- the rest of the image
def paint_stripes(image: Image.Image, gap: float, lean: float, colour: Colour, rng: np.random.Generator) -> Image.Image:
    """`image` with stripes every `gap` pixels, down or across, that go `lean` pixels aside and back again."""
    size = image.width
    for x in np.arange(-size, 2 * size, gap).tolist():
        ImageDraw.Draw(image).line((x, 0, x + lean, size / 2, x, size), fill=colour, width=max(1, round(gap * 0.45)))
    return image.transpose(Image.Transpose.TRANSPOSE) if rng.random() < 0.5 else image


def paint_coat(size: int, rng: np.random.Generator) -> tuple[Image.Image, Colour]:
    """A sheet of fur, `size` pixels square (plain, patched or striped), and the pale colour that goes with it."""
    base, second = fur_colour(rng), fur_colour(rng)
    coat, pattern = Image.new("RGB", (size, size), base), rng.integers(3)
    if pattern == 1:
        for x, y, r in (rng.uniform((0, 0, 0.03), (1, 1, 0.13), (int(rng.integers(8, 30)), 3)) * size).tolist():
            ImageDraw.Draw(coat).ellipse((x - r, y - r * 0.8, x + r, y + r * 0.8), fill=second)
    elif pattern == 2:
        gap, lean = rng.uniform(0.05, 0.11) * size, rng.uniform(-0.5, 0.5) * size
        coat = paint_stripes(coat, gap, lean, mix(base, second, 0.6), rng)
    return coat, mix(base, (255, 250, 240), rng.uniform(0.25, 0.8))


def paint_background(size: int, rng: np.random.Generator) -> Image.Image:
    """A gradient, soft noise, stripes, a room or a meadow, `size` pixels square."""
    kind = rng.choice(("gradient", "noise", "stripes", "room", "meadow"))
    a, b, c = any_colour(rng), any_colour(rng), any_colour(rng)
    if kind == "noise":
        n = int(rng.integers(3, 24))
        cells = np.asarray(a) + rng.normal(0, rng.uniform(8, 35), (n, n, 1)) + rng.normal(0, 9, (n, n, 3))
    else:
        cells = np.rot90([[a, mix(a, b, 0.5)], [mix(a, b, 0.5), b]], int(rng.integers(4)))
    image = Image.fromarray(cells.clip(0, 255).astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
    draw, horizon = ImageDraw.Draw(image), rng.uniform(0.45, 0.8) * size
    if kind == "stripes":
        gap, lean = rng.uniform(0.08, 0.2) * size, rng.uniform(-0.7, 0.7) * size
        return paint_stripes(image, gap, lean, mix(a, c, 0.4), rng)
    if kind == "room":
        draw.rectangle((0, horizon, size, size), fill=c)
        x, y, w, h = (rng.uniform((0, 0.02, 0.2, 0.2), (0.7, 0.2, 0.4, 0.4)) * size).tolist()
        frame = mix(c, (40, 30, 20), 0.5)
        draw.rectangle((x, y, x + w, y + h), fill=mix(b, WHITE, 0.5), outline=frame, width=size // 40)
    elif kind == "meadow":
        draw.ellipse((-size, horizon - size * 0.1, 2 * size, 3 * size), fill=c)
        for x, y, lean in rng.uniform((0, horizon, -4), (size, size, 4), (40, 3)).tolist():
            draw.line((x, y, x + lean, y - size * 0.06), fill=mix(c, b, 0.4), width=2)
    return image


def scatter(image: Image.Image, count: int, rng: np.random.Generator, *, edge: bool) -> None:
    """Draw `count` balls, boxes, straws and shards anywhere, or with `edge` (they may hide fur) at the border only."""
    draw, size = ImageDraw.Draw(image), image.width
    for _ in range(count):
        x, y, r = (rng.uniform((0, 0, 0.03), (1, 1, 0.11)) * size).tolist()
        border, shape, fill = float(rng.choice((0.02, 0.98))) * size, rng.integers(4), any_colour(rng)
        if edge:
            x, y = (x, border) if rng.random() < 0.6 else (border, y)
        if shape == 0:
            draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)
        elif shape == 1:
            draw.rectangle((x - r, y - r * 0.7, x + r, y + r * 0.7), fill=fill)
        elif shape == 2:
            draw.line((x, y, x + 3 * r, y + rng.uniform(-3, 3) * r), fill=fill, width=2)
        else:
            draw.polygon([(x + r * dx, y + r * dy) for dx, dy in rng.uniform(-1.2, 1.2, (3, 2)).tolist()], fill=fill)


def photograph(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Blur, uneven light, a tint and pixel noise."""
    size = image.width
    if rng.random() < 0.6:  # a shaking hand blurs one way more than the other
        image = image.filter(ImageFilter.GaussianBlur((rng.uniform(0, 1.1), rng.uniform(0, 1.1))))
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    slope_x, slope_y = rng.uniform(-0.2, 0.2, 2).astype(np.float32)
    light = rng.uniform(0.8, 1.15) + slope_x * ramp[None, :, None] + slope_y * ramp[:, None, None]
    noise = rng.standard_normal((size, size, 3), dtype=np.float32) * np.float32(rng.uniform(1, 10))
    pixels = np.asarray(image) * (light * rng.uniform(0.92, 1.08, 3)).astype(np.float32) + noise
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def draw(kind: Kind, rng: np.random.Generator, size: int = 128) -> Image.Image:
    """One image of a `kind`, RGB, `size` pixels square."""
    big = 2 * size  # drawn at twice the size, for smooth edges
    cues = draw_cues(kind, rng)
    image = paint_background(big, rng)
    scatter(image, int(rng.integers(0, 6)), rng, edge=False)
    coat, pale = paint_coat(big, rng)
    pose = str(rng.choice(tuple(POSES), p=(0.45, 0.3, 0.25)))
    low, high, x, y = POSES[pose]
    scale, flip, (dx, dy) = rng.uniform(low, high), float(rng.choice((-1, 1))), rng.uniform(-0.08, 0.08, 2)
    place = np.array([[flip * scale, 0, 0.5 + flip * (x + dx - 0.5)], [0, scale, y + dy]]) * big
    ink = mix((30, 24, 30), fur_colour(rng), rng.uniform(0, 0.3))
    shade = Image.blend(coat, Image.new("RGB", coat.size, ink), 0.22)
    light = (int(rng.integers(-1, 2)) * big // 50, -big // 50)
    brush = Brush(image, coat, shade, place, ink, int(rng.integers(1, 4)), light).turned(rng.uniform(-16, 16))
    paint_body(brush, pose, cues, pale, rng)
    paint_head(brush.turned(rng.uniform(-25, 25)), cues, pale, rng)
    scatter(image, int(rng.integers(0, 4)), rng, edge=True)
    return photograph(image.reduce(2), rng)


# ------------------------------------------------------------------------------------------------------- the folder
def cache_folder(name: str, size: int = 128) -> Path:
    """Return where the cache keeps such images, `size` pixels square; other code or libraries draw other ones."""
    sample = draw("cat", np.random.default_rng(0), size).tobytes()
    return cache_dir() / f"drawn_{name}-{hashlib.sha256(sample).hexdigest()[:8]}"


def draw_folder(
    root: Path, *, train: int = 800, val: int = 200, test: int = 400, seed: int = 0, rare: int = 2, size: int = 128
) -> None:
    """Write `root/{train,val,test}/{cat,dog}/0000.jpg ...`, one dog in `rare`, unless `root` is there already.

    Image i of a split depends on (seed, split, i) alone, so other counts leave it as it is. The folder appears whole
    or not at all; of two processes that ask for it at once, one waits for the other.
    """

    def fill(part: Path) -> Path:
        for number, (split, count) in enumerate({"train": train, "val": val, "test": test}.items()):
            for kind in KINDS:
                (part / split / kind).mkdir(parents=True)
            for i in range(count):
                dog = i % rare == rare - 1
                image = draw(KINDS[dog], np.random.default_rng([seed, number, i]), size)
                name = i // rare if dog else i - i // rare
                image.save(part / split / KINDS[dog] / f"{name:04d}.jpg", quality=90)
        return root

    once(root, there, fill)
