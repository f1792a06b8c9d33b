"""Explanations as the methods return them, made up: of images, texts and rows."""

from __future__ import annotations

import numpy as np

from src.explain.checks import Checks
from src.explain.explanation import Explanation, Explanations, Neighbour
from src.explain.faithfulness import Faithfulness
from src.explain.overall import Dependence, Importance, Overall

REVIEW = (
    "I went in expecting little, and for the first half hour that is what I got: a dull opening, two stiff leads and a "
    "score that will not leave well alone. Then the train leaves the station and the film wakes up. What follows is a "
    "superb, wonderfully tense hour, beautifully shot, with a last scene that I will not forget. Not perfect, but "
    "I loved it."
)
WEIGHTS = {
    "dull": -0.21, "stiff": -0.12, "superb,": 0.34, "wonderfully": 0.29, "tense": 0.06, "beautifully": 0.17,
    "forget.": 0.08, "Not": -0.09, "perfect,": 0.11, "loved": 0.25, "little,": -0.07,
}  # fmt: skip
ROW = {
    "OverallQual": ("8", 0.83, 41_200.0), "GrLivArea": ("2090", 0.88, 33_800.0),
    "Neighborhood": ("NridgHt", 0.05, 15_950.0),
    "TotalBsmtSF": ("1494", 0.86, 12_400.0), "YearBuilt": ("1956", 0.33, -9_800.0), "GarageCars": ("2", 0.41, 6_100.0),
    "KitchenQual": ("TA", 0.5, -5_400.0), "LotArea": ("9 600", 0.53, 1_800.0), "Alley": ("", float("nan"), -400.0),
    "Street": ("Pave", 0.996, 60.0), **{f"Other{k}": (str(k), k / 12, 40.0 - 7 * k) for k in range(12)},
}  # fmt: skip


def checks(*, good: bool = True, one: bool = False) -> Checks:
    """Return checks of explanations that beat chance, or not; of one alone nothing is known."""
    steps = np.linspace(0, 1, 21)
    up, down = (steps**0.3, (1 - steps) ** 3) if good else (steps**1.05, 1 - steps**1.02)
    interval, beyond = ((0.31, 0.58), (0.29, 0.57)) if good else ((-0.09, 0.07), (-0.1, 0.06))
    faithful = Faithfulness(
        gain=0.45 if good else -0.01,
        interval=None if one else interval,
        random=0.01,
        beyond_random=None if one else beyond,
        examples=1 if one else 60,
        insertion=(0.05 + 0.9 * up).tolist(),
        deletion=(0.05 + 0.9 * down).tolist(),
        random_insertion=(0.05 + 0.9 * steps**1.1).tolist(),
        random_deletion=(0.05 + 0.9 * (1 - steps**1.1)).tolist(),
    )
    layers = ("head", "layer4", "layer3", "layer2", "layer1", "stem")
    agreement = (0.62, 0.41, 0.3, 0.22, 0.19, 0.17) if good else (0.97, 0.95, 0.93, 0.93, 0.92, 0.91)
    return Checks(faithful, cascade=[*zip(layers, agreement, strict=True)], stable=0.93, completeness=0.004)


def photo(seed: int = 0, side: int = 224) -> np.ndarray:
    """Return a picture with a disc in it, uint8 [side, side, 3]."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side] / side
    sky = np.stack([0.35 + 0.3 * rows, 0.5 + 0.2 * columns, 0.75 - 0.4 * rows], -1)
    row, column = rng.uniform(0.25, 0.75, 2)
    disc = (rows - row) ** 2 + (columns - column) ** 2 < 0.15**2
    sky[disc] = [0.85, 0.45 + 0.2 * rng.random(), 0.2]
    return (255 * np.clip(sky + rng.normal(0, 0.03, sky.shape), 0, 1)).astype(np.uint8)


def heat(seed: int = 0, side: int = 224, *, negative: bool = False) -> np.ndarray:
    """Return a map that is strongest at the disc of `photo`, [side, side]."""
    row, column = np.random.default_rng(seed).uniform(0.25, 0.75, 2)
    rows, columns = np.mgrid[:side, :side] / side
    found = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 0.02)
    return found - 0.4 * np.exp(-((rows - 0.1) ** 2 + (columns - 0.9) ** 2) / 0.02) if negative else found


def image(seed: int = 0, *, side: int = 224, negative: bool = False, right: bool = True) -> Explanation:
    near = [
        Neighbour(f"train/cat/{k:04}.jpg", "cat", 0.998 - 0.013 * k, photo(seed if k == 0 else 10 + k, side))
        for k in range(4)
    ]
    near.append(
        Neighbour("train/dog/0817.jpg", "dog", 0.931, photo(20, side), "labelled dog among cat: perhaps mislabelled")
    )
    return Explanation(
        f"photos/holiday/{seed}.jpg", "image", "cat", 0.9731 - 0.2 * seed, heat(seed, side, negative=negative),
        image=photo(seed, side), expected="cat" if right else "dog", neighbours=tuple(near),
    )  # fmt: skip


def text(row: int = 0, *, expected: str = "pos") -> Explanation:
    words = tuple(REVIEW.split())
    rng = np.random.default_rng(row)
    values = np.array([WEIGHTS.get(word, 0.0) for word in words]) + rng.normal(0, 0.008, len(words))
    near = (
        Neighbour("train 1204", "pos", 1.0, REVIEW, "the same as the input"),
        Neighbour("train 88", "pos", 0.914, "A slow start, but what a superb second half. Loved every minute."),
        Neighbour("train 5417", "pos", 0.902, "Beautifully shot and tense to the last frame."),
    )
    return Explanation(
        f"{row}",
        "text",
        "pos",
        0.962,
        values,
        words,
        error=np.full(len(words), 0.012),
        freedom=9,
        neighbours=near,
        expected=expected,
    )


def row(number: int = 0) -> Explanation:
    cells, quantiles, values = zip(*ROW.values(), strict=True)
    scores = np.array(values)
    near = tuple(
        Neighbour(
            f"train {k}",
            f"{310_000 - 9000 * k}",
            0.99 - 0.01 * k,
            f"OverallQual 8, GrLivArea {2090 - 35 * k}, Neighborhood NridgHt, YearBuilt {2006 - k}",
        )
        for k in range(3)
    )
    return Explanation(
        f"house {number}", "table", "prediction", 287_400.0, scores, tuple(ROW), error=np.abs(scores) * 0.04 + 300,
        freedom=3, cells=cells, quantiles=quantiles, expected="301500", neighbours=near,
    )  # fmt: skip


def explanations(*found: Explanation, good: bool = True, one: bool = False, **errors: str) -> Explanations:
    methods = {
        "image": "Grad-CAM, blocks.6 (7 x 7)",
        "text": "LIME, 500 samples of words",
        "table": "KernelSHAP, 2048 coalitions",
    }
    return Explanations(
        found,
        methods[found[0].kind],
        checks(good=good, one=one),
        errors,
        ["40 inputs were left out: --budget 60 was used up"],
    )


def overall() -> Overall:
    """Return what a network looks at: a number, a category, a date, and many columns that hardly matter."""
    rng = np.random.default_rng(0)
    drops = {"GrLivArea": 0.21, "Neighborhood with a name of some length": 0.12, "YrSold": 0.05}
    drops |= {f"Other{k}": 0.01 - 0.001 * k for k in range(15)}
    importances = [Importance(name, drop, (drop - 0.02, drop + 0.02)) for name, drop in drops.items()]
    areas = np.sort(rng.gamma(4, 400, 20))
    towns = ("NridgHt", "OldTown", "CollgCr", "Somerst", "$NAmes$")
    days = np.linspace(12_000, 15_000, 12).round()
    level = rng.normal(180_000, 40_000, (80, 1))
    dates = tuple(str(np.datetime64(int(day), "D")) for day in days)
    steep = 60 * areas * rng.uniform(0.6, 1.4, (80, 1))
    dependences = (
        Dependence("GrLivArea", tuple(f"{area:.0f}" for area in areas), areas, level + steep),
        Dependence("Neighborhood", towns, None, level + np.array([60, 5, 20, 30, 0]) * 1e3),
        Dependence("YrSold", dates, days, level + 4 * (days - 12_000)),
    )
    return Overall("r2", 0.873, 500, 10, "prediction", tuple(importances), dependences)
