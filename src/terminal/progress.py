"""How far a long step is, for the person who waits."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from src.terminal.console import LABEL, OTHERS, SafeConsole

T = TypeVar("T")


def counted(what: str, batches: Sequence[T]) -> Iterator[T]:
    """Yield batches; meanwhile show on standard error how many are done, where that is a terminal."""
    console = SafeConsole(stderr=True)
    bar = Progress(
        TextColumn(f"{what:<{LABEL}}", style=OTHERS, markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("batches"),
        console=console,
        auto_refresh=False,  # without a thread, as `TerminalBar`
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=not sys.stderr.isatty(),
    )
    with bar:
        if not bar.disable:
            console.show_cursor()  # rich hides it, and a process that is killed would leave it so
        task = bar.add_task(what, total=len(batches))
        for batch in batches:
            yield batch
            bar.update(task, advance=1, refresh=True)
