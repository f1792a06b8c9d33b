"""The console that all lines of a run go through, above the progress bar while there is one.

Where standard output is no terminal, lines are plain and as long as they are: programs read them.
"""

from __future__ import annotations

import contextlib
import functools
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO, cast

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.file_proxy import FileProxy
from rich.measure import Measurement
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from src.terminal.streams import Escaped, escaped

LABEL = 10
"""Characters that a label has room for."""
LOUD = "bold white on red"
QUIET = "bold yellow"
STYLES = {"STAND-IN": LOUD, "WRONG": LOUD, "CACHE": LOUD, "NOTE": QUIET, "note": QUIET, "warning": QUIET}
OTHERS = "cyan"
"""Styles of labels."""
MOST_WHOLE = 30
"""Characters of a column of a line that is kept together."""
METRIC = re.compile(r"\b(?:train|val|test)/\w+(?= )")


class SafeConsole(Console):
    """A console that writes control codes in texts as escapes."""

    @override
    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(escaped(segment.text), segment.style)


def in_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout.isatty()


def current() -> Console:
    """Return the one console of standard output; into a pipe or a file, lines are as long as they are."""
    return _console(in_terminal())


@functools.cache
def _console(in_terminal: bool) -> Console:
    return SafeConsole(width=None if in_terminal else 10_000, markup=False, highlight=False, emoji=False)


def title(text: str) -> None:
    """Print what the lines below are of."""
    if in_terminal():
        current().print(Text(escaped(text), "bold"))
    else:
        print(escaped(text), flush=True)


def line(label: str, text: str) -> None:
    """Print a text behind a label; in a terminal at its width, the rest below the text. A line break in a name is no
    line break here."""
    text = escaped(text).replace("\n", r"\n")
    if in_terminal():
        room = _room(label)
        parts = [Text(part) for part in _lines(text, room)]
        _print(label, [row for part in parts for row in part.wrap(current(), room, overflow="fold")])
    else:
        print(f"{label:<{LABEL}} {text}", flush=True)


def command(label: str, text: str) -> None:
    """Print a command of the shell as `line` does; where it is broken, it can still be copied as it stands."""
    if not in_terminal():
        return line(label, text)
    lines, room = [""], _room(label) - 2
    for word in re.findall(r"(?:--\S+ )?(?:'[^']*'|\S)+", escaped(text)):
        joined = f"{lines[-1]} {word}".strip()
        if lines[-1] and cell_len(joined) > room:
            lines.append(word)
        else:
            lines[-1] = joined
    return _print(label, [*(Text(f"{part} \\") for part in lines[:-1]), Text(lines[-1])])


def table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows, the first as the header, below the text of labelled lines. A table that is too wide is turned if that
    makes it narrower."""
    if not in_terminal():
        for row in rows_as_lines(rows):
            line("", row)
        return
    out, made = current(), _table(rows)
    room = out.width - LABEL - 1
    if Measurement.get(out, out.options, made).maximum > room and len(rows) < len(rows[0]):
        made = _table(list(zip(*rows, strict=True)))
    out.print(Padding.indent(made, LABEL + 1))


def rows_as_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as lines whose columns stand below one another."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


@contextlib.contextmanager
def above(out: Console) -> Iterator[None]:
    """While a bar is drawn on a console, put what is printed above it, warnings too, if they go to the terminal."""
    streams = {name: stream for name in ("stdout", "stderr") if (stream := getattr(sys, name)).isatty()}
    for name, stream in streams.items():
        setattr(sys, name, Escaped(cast("TextIO", FileProxy(out, stream))))
    try:
        yield
    finally:
        for name, stream in streams.items():
            setattr(sys, name, stream)


def _room(label: str) -> int:
    return max(current().width - max(cell_len(label), LABEL) - 1, 20)


def _lines(text: str, room: int) -> list[str]:
    """Break a text into lines, a name and its value, between which and the next are two spaces, at no place within."""
    lines = [""]
    for space, part in re.findall(r"(\s*)((?:\S| (?! ))+)", text):
        whole = cell_len(part) <= MOST_WHOLE
        for number, word in enumerate([part] if whole else part.split(" ")):
            joined = lines[-1] + (" " if number else space) + word
            if lines[-1].strip() and cell_len(joined) > room:
                lines.append(word)
            else:
                lines[-1] = joined
    return lines


def _print(label: str, lines: Sequence[Text]) -> None:
    label = escaped(label)
    head = Text.assemble((label, STYLES.get(label, OTHERS)), " " * max(LABEL - cell_len(label), 0), " ")
    margin = Text(" " * cell_len(head.plain))
    for body in lines:
        body.highlight_regex(METRIC, "dim")
    rows = [(margin if number else head) + body for number, body in enumerate(lines)]
    current().print(Text("\n").join(rows), no_wrap=True, overflow="ignore", crop=False)


def _table(rows: Sequence[Sequence[str]]) -> Table:
    first, *others = map(escaped, rows[0])
    made = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    made.add_column(first, overflow="fold")
    for name in others:
        made.add_column(name, justify="right", overflow="fold")
    for row in rows[1:]:
        made.add_row(*map(escaped, row))
    return made
