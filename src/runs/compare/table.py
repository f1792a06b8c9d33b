"""The comparison in the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from src.runs.compare.caution import split_of
from src.runs.compare.groups import Block, Estimate, Group, shown_value
from src.runs.compare.runs import Run
from src.terminal import console
from src.terminal.streams import escaped

MOST_LINES = 20


def show(blocks: Sequence[Block], cautions: Sequence[str], skipped: Sequence[str]) -> None:
    """Print a table for each set of data, then what is not done, then what to beware of."""
    out = console.current()
    for block in blocks:
        out.print(heading(block))
        out.print(table(block))
    _lines(out, [_unfinished(run) for block in blocks for run in block.runs if run.state != "done"])
    _lines(out, [_exported(run) for block in blocks for run in block.runs if run.exports])
    for line in cautions:
        out.print(Text.assemble(("WARNING  ", "bold yellow"), line))
    _lines(out, [Text.assemble(("SKIPPED  ", "bold red"), line) for line in skipped])


def heading(block: Block) -> Text:
    if not block.data:
        return Text("ended before the data were read", style="bold")
    loud = [(" STAND-IN ", console.LOUD), " "] if block.fallback else []
    return Text.assemble(*loud, (block.data["source"], "bold"), f"; splits {split_of(block)}")


def table(block: Block) -> Table:
    """Return the groups of a block, best first: what differs, the runs' states, mean, deviation and interval."""
    found = Table(box=SIMPLE_HEAD, pad_edge=False)
    found.add_column("experiment", overflow="fold")
    for name in block.columns:
        found.add_column(escaped(name), overflow="fold")
    found.add_column("runs")
    found.add_column("n", justify="right")
    for name in block.main_metrics:
        found.add_column(f"{escaped(name)}{' (STAND-IN)' if block.fallback else ''}")
    for group in block.groups:
        columns = [shown_value(group.settings[name]) if name in group.settings else "" for name in block.columns]
        cells = [shown(group.estimates.get(name), len(group.counted)) for name in block.main_metrics]
        found.add_row(*map(escaped, (block.title(group), *columns)), states(group), str(len(group.counted)), *cells)
    return found


def states(group: Group) -> str:
    return ", ".join(f"{count} {state}" for state, count in group.states.items())


def shown(found: Estimate | None, runs: int) -> str:
    """Return 'mean ± sd  [low, high]', of two runs 'mean ± sd  (value, value)'; how many runs have it is said where not
    all of `runs` do."""
    if found is None:
        return ""
    few = f"  (n {found.n})" if found.n < runs else ""
    if found.sd is None:
        return number(found.mean) + few
    low, high = map(number, found.pair or (found.low, found.high))  # pyright: ignore[reportArgumentType]
    values = f"({low}, {high})" if found.pair else f"[{low}, {high}]"
    return f"{number(found.mean)} ± {number(found.sd)}  {values}{few}"


def number(value: float) -> str:
    """Return a number at a readable length: four decimals for shares, none for large ones."""
    size = abs(value)
    if not math.isfinite(value) or (0 < size < 1e-3):
        return f"{value:.2g}"
    return f"{value:.4f}" if size < 10 else f"{value:.2f}" if size < 1000 else f"{value:,.0f}"


def _unfinished(run: Run) -> Text:
    style = {"running": "cyan", "interrupted": "yellow"}.get(run.state, "red")
    return Text.assemble((f"{run.state:<12}", style), f"{run.path}  {run.trouble()}")


def _exported(run: Run) -> Text:
    return Text.assemble((f"{'exported':<12}", "cyan"), f"{run.path}  {'; '.join(map(str, run.exports))}")


def _lines(out: Console, lines: Sequence[Text]) -> None:
    for line in lines[:MOST_LINES]:
        out.print(line)
    if len(lines) > MOST_LINES:
        out.print(f"... and {len(lines) - MOST_LINES} more")
