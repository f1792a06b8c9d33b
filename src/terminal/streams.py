"""Standard output and error that no name can give orders to a terminal through."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TextIO

CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 without tab and line feed, DEL, C1
    "\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"  # line separators, direction (Unicode TR 36, 3.1)
)
"""What a terminal obeys, or what shows a text in another order than it has."""

NO_COLOR = {"--no-color", "--no_color"}
"""The flag, as tyro takes it."""


def escaped(text: str) -> str:
    r"""Return text with control characters and changes of direction as escapes: '\x1b[31m' with a backslash."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class Escaped:
    r"""A text stream that writes control characters as escapes, in a pipe too, which may end in a terminal.

    Where the reader of a pipe goes away, as in `run.py | head`, the rest goes nowhere: a line of output must not end a
    training. A carriage return that a write begins with stays: with it the bar of a download is drawn over the last.

    Args:
        stream: where the text goes.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        start = text[: text.startswith("\r")]
        try:
            self.stream.write(start + escaped(text[len(start) :]))
        except BrokenPipeError:
            self.close_pipe()
        return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except BrokenPipeError:
            self.close_pipe()

    def close_pipe(self) -> None:
        """Write what follows, and what is still in the buffer, to nowhere."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.stream.fileno())
        os.close(nowhere)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    @property
    def rich_proxied_file(self) -> TextIO:
        """The stream itself, for rich, which writes codes of its own; `Console` escapes what it is given."""
        stream = self.stream
        while inner := getattr(stream, "rich_proxied_file", None):
            stream = inner
        return stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def guard_streams() -> None:
    """From now on, escape what is written to standard output and error, and characters that the locale lacks: a line
    of output must not end a run."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, Escaped(stream))


@contextlib.contextmanager
def unguarded() -> Iterator[None]:
    """For a while, write to the streams that `guard_streams` guards as they are.

    Where the reader goes away, as in `run.py --help | head`, the program ends.
    """
    found = {name: stream for name in ("stdout", "stderr") if isinstance(stream := getattr(sys, name), Escaped)}
    for name, stream in found.items():
        setattr(sys, name, stream.stream)
    try:
        yield
    except BrokenPipeError:
        if "stdout" not in found:
            raise
        found["stdout"].close_pipe()
        sys.exit()
    finally:
        for name, stream in found.items():
            setattr(sys, name, stream)


def choose_colours(argv: Sequence[str]) -> None:
    """Have `--no-color` do what the environment variable NO_COLOR does (https://no-color.org)."""
    if NO_COLOR & {*argv}:
        os.environ["NO_COLOR"] = "1"
