"""What a card is made of; `card.md` and `card.html` show the same blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    loud: bool = False
    """Whether nobody may miss it."""
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Bullets:
    """A list."""

    items: Sequence[str]
    kind: ClassVar[str] = "bullets"


@dataclass(frozen=True)
class Table:
    """Rows of cells below a header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: str = ""
    """What stands in place of the table until it is opened; '' for one that is open."""
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Code:
    """Lines that a user types."""

    text: str
    language: str
    kind: ClassVar[str] = "code"


@dataclass(frozen=True)
class Drawing:
    """An SVG element; in HTML alone."""

    title: str
    svg: str
    kind: ClassVar[str] = "drawing"


Block = Text | Bullets | Table | Code | Drawing


@dataclass(frozen=True)
class Section:
    """Blocks below a title; parts have a smaller one."""

    title: str
    blocks: Sequence[Block] = ()
    parts: Sequence[Section] = field(default=())
