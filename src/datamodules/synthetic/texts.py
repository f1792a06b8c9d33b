"""Texts made up on the spot: tickets with several topics, and reviews with a rating, where there are no real ones.

A ticket has the topics of the things that it says are wrong, and not of those that it says are fine: words alone tell
less than their order. One topic in thirty is forgotten, or given without a reason. A rating is the mean of what the
sentences say, with noise.
"""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path

import numpy as np

from src.configs.spec import TargetKind
from src.resources.cache import cache_dir
from src.resources.files import atomic_write

COUNT = 3000
SLIPS = 1 / 30
THINGS = {
    "billing": ("invoice", "charge", "price", "payment", "discount"),
    "delivery": ("parcel", "driver", "shipment", "tracking", "address"),
    "login": ("password", "account", "code", "username", "session"),
    "app": ("screen", "update", "button", "menu", "search"),
    "staff": ("agent", "reply", "phone line", "chat", "clerk"),
}
WRONG = ("is wrong again", "does not work", "was no help", "is a mess", "failed twice", "is still not right")
FINE = ("is fine", "works well", "was a help", "is all right now", "did not fail", "is no problem")
OPENINGS = ("hello", "hi there", "dear team", "as I said before", "once more", "just so you know")
ASPECTS = ("food", "room", "service", "view", "bed", "staff", "pool", "breakfast", "music", "place")
WORTH = {
    "superb": 2.0,
    "lovely": 1.5,
    "good": 1.0,
    "decent": 0.3,
    "dull": -0.5,
    "poor": -1.0,
    "bad": -1.5,
    "awful": -2.0,
}
DEGREES = {"": 1.0, "very": 1.4, "rather": 0.6, "not": -0.8, "not very": -0.4}


def draw_texts(kind: TargetKind) -> tuple[Path, str, str]:
    """Return a table of `COUNT` texts in the cache, what they are, and the name of its target's column."""
    what, target, draw = ("reviews", "rating", _review) if kind == "regression" else ("tickets", "topics", _ticket)
    rng = np.random.default_rng(0)
    rows: dict[str, str] = {}
    while len(rows) < COUNT:  # no text twice
        text, value = draw(rng)
        rows.setdefault(text, value)
    table = io.StringIO()
    csv.writer(table).writerows([("text", target), *rows.items()])
    name = hashlib.sha256(table.getvalue().encode()).hexdigest()[:16]
    path = cache_dir() / "drawn" / f"{what}-{name}.csv"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, table.getvalue())
    return path, f"{what} made up on the spot", target


def _ticket(rng: np.random.Generator) -> tuple[str, str]:
    """Return what is wrong or fine with two to four things, and the topics of those that are wrong, or ''."""
    topics = rng.permutation([*THINGS])[: rng.integers(2, 5)]
    wrong = [topic for topic in topics if rng.random() < 0.5]
    said = [f"the {rng.choice(THINGS[topic])} {rng.choice(WRONG if topic in wrong else FINE)}" for topic in topics]
    given = [topic for topic in THINGS if (topic in wrong) != (rng.random() < SLIPS)]
    return f"{rng.choice(OPENINGS)}, {', and '.join(said)}", ";".join(given)


def _review(rng: np.random.Generator) -> tuple[str, str]:
    """Return two to five sentences and a rating from 0 to 10."""
    said: list[str] = []
    worth: list[float] = []
    for aspect in rng.permutation(ASPECTS)[: rng.integers(2, 6)]:
        degree, word = rng.choice([*DEGREES]), rng.choice([*WORTH])
        said.append(" ".join(f"the {aspect} was {degree} {word}".split()))
        worth.append(DEGREES[degree] * WORTH[word])
    rating = 5 + 2 * float(np.mean(worth)) + rng.normal(0, 0.4)
    return f"{rng.choice(OPENINGS)}, {', '.join(said)}", f"{min(10.0, max(0.0, rating)):.1f}"
