"""A page as a reader of HTML sees it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from typing_extensions import override

VOID = ("meta", "img", "br", "input", "path", "polyline", "use", "rect", "image")
BLOCKS = ("li", "td", "th", "dt", "dd", "p", "h3", "small", "strong")


class Parsed(HTMLParser):
    """A page's tags and attributes, the text that it shows, the text of its table cells, and the tags left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.cells: list[str] = []
        self.open: list[str] = []
        self.shown = ""
        self.feed(text)
        self.close()
        self.shown = re.sub(r"\s+", " ", self.shown)

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    @override
    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag
        self.shown += " " if tag in BLOCKS else ""

    @override
    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    @override
    def handle_data(self, data: str) -> None:
        if not {"style", "script", "title"} & set(self.open):
            self.shown += data
        if {"td", "th"} & set(self.open):
            self.cells[-1] += data.strip()
