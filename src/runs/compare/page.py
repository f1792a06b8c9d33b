"""The comparison as one page: opens from disk, loads nothing, runs no script."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from src.configs.errors import InputError
from src.resources.templates import environment
from src.runs.compare import curves, table
from src.runs.compare.bootstrap import RESAMPLES, Paired, paired
from src.runs.compare.caution import split_of
from src.runs.compare.groups import Block, Group, shown_value

MOST_CURVES = len(curves.COLOURS)
"""Groups of a set of data whose curves are drawn, the best: more could not be told apart."""
MOST_PAIRED = 5
"""Groups of a set of data whose best runs are compared in pairs: ten pairs."""
GREY = "#8a8a8a"


def page(blocks: Sequence[Block], cautions: Sequence[str], skipped: Sequence[str]) -> str:
    """Return the page. Whatever comes from the user is escaped."""
    templates = environment(Path(__file__).parent)
    templates.globals |= {"number": table.number, "shown_value": shown_value}
    return templates.get_template("page.html").render(
        now=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        runs=sum(len(block.runs) for block in blocks),
        groups=sum(len(block.groups) for block in blocks),
        cautions=cautions,
        skipped=skipped,
        sections=[section(number, block) for number, block in enumerate(blocks)],
        resamples=RESAMPLES,
        most_curves=MOST_CURVES,
    )


def section(number: int, block: Block) -> dict[str, Any]:
    """Return what the template shows of a block."""
    colours = [curves.COLOURS[i] if i < MOST_CURVES and group.best else GREY for i, group in enumerate(block.groups)]
    return {
        "block": block,
        "split": split_of(block) if block.data else "",
        "groups": [
            {
                "group": group,
                "colour": colour,
                "label": block.label(group),
                "states": table.states(group),
                "per_class": per_class(group),
            }
            for group, colour in zip(block.groups, colours, strict=True)
        ],
        "others": [name for name in block.metrics if name not in block.main_metrics],
        "charts": charts(number, block, colours),
        "pairs": pairs(block),
    }


def charts(number: int, block: Block, colours: Sequence[str]) -> list[tuple[str, Markup]]:
    """Return name and SVG of the learning curves of the finished runs: losses, and what was monitored."""
    shown = [group for group in block.groups[:MOST_CURVES] if group.counted]
    read = [[curves.read(run.path) for run in group.counted] for group in shown]
    names = dict.fromkeys(["train/loss", "val/loss", *(group.monitored for group in shown if group.monitored)])
    svgs: list[tuple[str, Markup]] = []
    for name in names:
        lines = [[run[name] for run in runs if name in run] for runs in read]
        if any(lines):
            svg = curves.draw(lines, colours[: len(shown)], label=name, unique=f"{number} {name}")
            svgs.append((name, Markup(svg)))  # matplotlib escapes its texts
    return svgs


def pairs(block: Block) -> list[tuple[str, str, Paired | str]]:
    """Return the paired bootstrap of the best runs of each two of the best groups, or why there is none."""
    found: list[tuple[str, str, Paired | str]] = []
    best = [group for group in block.groups if group.best][:MOST_PAIRED]
    for one, two in itertools.combinations(best, 2):
        if not (one.best and two.best):
            continue
        try:
            result = paired(one.best, two.best)
        except InputError as error:
            result = str(error)
        found.append((f"{block.label(one)}, seed {one.best.seed}", f"{block.label(two)}, seed {two.best.seed}", result))
    return found


def per_class(group: Group) -> dict[str, dict[str, dict[str, str]]]:
    """Return split -> class -> figure -> 'mean ± sd' over the group's runs."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for split in ("val", "test"):
        tables = [run.record.get("per_class", {}).get(split, {}).get("classes", {}) for run in group.counted]
        tables = [one for one in tables if one]
        for name in tables[0] if tables else ():
            rows = [one[name] for one in tables if name in one]
            found.setdefault(split, {})[name] = {figure: _spread([row[figure] for row in rows]) for figure in rows[0]}
    return found


def _spread(values: Sequence[float]) -> str:
    if all(value == int(value) for value in values) and len(set(values)) == 1 and values[0] > 1:
        return f"{values[0]:.0f}"  # a count, the support
    mean = f"{np.mean(values):.3f}"
    return f"{mean} ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else mean
