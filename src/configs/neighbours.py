"""How nearest neighbours vote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from src.configs.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """Which training examples vote on an input's answer."""

    count: int = 10
    """How many, the nearest."""
    distance: Literal["euclidean", "cosine"] = "euclidean"
    """Between features; a vote counts by its inverse."""
    most: int = 20_000
    """Training examples that are kept; of more, so many drawn at random, and the run says so."""

    def __post_init__(self) -> None:
        for name in ("count", "most"):
            if getattr(self, name) < 1:
                raise InputError(f"--neighbours.{name} {getattr(self, name)}: at least 1.")
