"""Sheets of coloured shapes, drawn on the spot, and a table of what is on each: a class, labels and a number."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from src.configs.labels import LABEL_SEPARATOR
from src.configs.spec import TargetKind
from src.resources.cache import cache_dir, once, there

KINDS, ODDS = ("circle", "square", "triangle"), (0.5, 0.3, 0.2)
TARGETS: dict[TargetKind, tuple[str, ...]] = {
    "single_label": ("largest",),
    "multi_label": ("shapes",),
    "regression": ("area",),
}
"""Columns of the table: the kind of the largest shape, the kinds that are there, the share of the sheet they cover."""
SIZES = {"train": 800, "val": 200, "test": 400}
SIDE = 96
GRID = 3
"""Cells a side, each with one shape at the most, so that none hides another."""


def draw(rng: np.random.Generator) -> tuple[Image.Image, dict[str, str]]:
    """Return a sheet, RGB, `SIDE` pixels square, and what its row of the table says.

    Colours, lines across the sheet, turns and noise tell nothing of the shapes.
    """
    big = 2 * SIDE  # drawn at twice the size, for smooth edges
    ground = rng.integers(0, 256, (2, 2, 3)).astype(np.uint8)
    image = Image.fromarray(ground).resize((big, big), Image.Resampling.BICUBIC)
    mask = Image.new("L", (big, big))
    for ends in rng.uniform(0, big, (int(rng.integers(0, 4)), 4)):
        ImageDraw.Draw(image).line(ends.tolist(), fill=_colour(rng), width=3)
    radius_of: dict[str, float] = {}
    for cell in rng.permutation(GRID**2)[: rng.integers(0, 6)].tolist():
        kind, radius = str(rng.choice(KINDS, p=ODDS)), float(rng.uniform(0.05, 0.14) * big)
        centre = (np.array([cell % GRID, cell // GRID]) + 0.5 + rng.uniform(-0.08, 0.08, 2)) * big / GRID
        corners = {"circle": 40, "square": 4, "triangle": 3}[kind]
        angles = rng.uniform(0, 2 * np.pi) + np.linspace(0, 2 * np.pi, corners, endpoint=False)
        outline = [tuple(point) for point in centre + radius * np.stack([np.cos(angles), np.sin(angles)], 1)]
        ImageDraw.Draw(image).polygon(outline, fill=_colour(rng))
        ImageDraw.Draw(mask).polygon(outline, fill=255)
        radius_of[kind] = max(radius, radius_of.get(kind, 0))
    pixels = np.asarray(image.reduce(2)) + rng.normal(0, rng.uniform(1, 10), (SIDE, SIDE, 3))
    row = {
        "largest": max(radius_of, key=lambda kind: radius_of[kind], default="empty"),
        "shapes": LABEL_SEPARATOR.join(sorted(radius_of)),
        "area": f"{100 * np.asarray(mask).mean() / 255:.2f}",
    }
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), row


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = rng.integers(0, 256, 3).tolist()
    return red, green, blue


def draw_table(sizes: dict[str, int] = SIZES) -> Path:
    """Return a table `path,split,largest,shapes,area` of sheets, written to the cache once.

    Sheet i of a split depends on (split, i) alone. Other code or libraries draw other ones, elsewhere.
    """
    sample = draw(np.random.default_rng(0))[0].tobytes() + repr(sizes).encode()
    root = cache_dir() / f"drawn_sheets-{hashlib.sha256(sample).hexdigest()[:8]}"

    def fill(part: Path) -> Path:
        with_rows: list[dict[str, str]] = []
        for number, (split, count) in enumerate(sizes.items()):
            (part / split).mkdir(parents=True)
            for i in range(count):
                image, row = draw(np.random.default_rng([number, i]))
                image.save(part / split / f"{i:04d}.png")
                with_rows.append({"path": f"{split}/{i:04d}.png", "split": split, **row})
        with open(part / "sheets.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(with_rows[0]))
            writer.writeheader()
            writer.writerows(with_rows)
        return root

    return once(root, there, fill) / "sheets.csv"
