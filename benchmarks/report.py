"""What a job measured: rows with ratios and their intervals, printed and written to `benchmarks/results.md`."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.turns import Contender, Speeds, race

RESAMPLES = 10_000
Interval = tuple[float, float]


@dataclass(frozen=True)
class Row:
    """One contender in one job."""

    job: str
    contender: str
    unit: str = ""
    """Of the figures."""
    median: float | None = None
    """Over the rounds; None where it could not be measured."""
    spread: Interval | None = None
    """Least and greatest."""
    against: str = ""
    """Whose ratio to this contender is shown."""
    ratio: float | None = None
    """Median of the rounds' ratios."""
    interval: Interval | None = None
    """95 % interval of that median."""
    mark: float | None = None
    """What is asked of the ratio; of the median where there is no other contender."""
    most: bool = False
    """The mark is the most, not the least."""
    note: str = ""
    """Why it could not be measured, or what should be known."""

    @property
    def verdict(self) -> str:
        value = self.ratio if self.against else self.median
        if self.mark is None or value is None:
            return ""
        return "hit" if (value <= self.mark if self.most else value >= self.mark) else "MISS"

    def cells(self) -> list[str]:
        """Return the row of the table."""
        ratio = "" if self.ratio is None else f"{self.ratio:.3f} ({_range(self.interval)})"
        sign = "<=" if self.most else ">="
        mark = "" if self.mark is None else f"{sign} {self.mark:g} {self.verdict}".strip()
        figure = self.note if self.median is None else f"{_number(self.median)} {self.unit}"
        return [self.contender, figure, _range(self.spread), self.against if ratio or mark else "", ratio, mark]


HEADER = ["contender", "median", "range", "its ratio to this one:", "ratio (95 % interval)", "mark"]


def _number(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ") if value >= 1000 else f"{value:.3g}"


def _range(found: Interval | None) -> str:
    if found is None:
        return ""
    return f"{_number(found[0])}-{_number(found[1])}" if found[1] >= 10 else f"{found[0]:.3f}-{found[1]:.3f}"


def ratio(ours: Sequence[float], other: Sequence[float]) -> tuple[float, Interval]:
    """Return the median of the rounds' ratios and its 95 % interval, by bootstrap of the rounds (percentiles)."""
    ratios = np.array(ours) / np.array(other)
    drawn = np.random.default_rng(0).integers(0, len(ratios), (RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(ratios[drawn], axis=1), (0.025, 0.975))
    return float(np.median(ratios)), (float(low), float(high))


def rows(
    job: str, contenders: Sequence[Contender], speeds: Speeds, unit: str = "examples/s", *, most: bool = False
) -> list[Row]:
    """Return a row for each contender. With `most` less is better: marks are upper limits."""
    found = []
    for one in contenders:
        rounds, rival = speeds[one.name], speeds.get(one.against, "")
        if isinstance(rounds, str):
            found.append(Row(job, one.name, note=f"not run: {rounds}"))
            continue
        row = Row(
            job,
            one.name,
            unit,
            statistics.median(rounds),
            (min(rounds), max(rounds)),
            one.against,
            *(ratio(rival, rounds) if one.against and not isinstance(rival, str) else (None, None)),
            one.mark,
            most,
        )
        found.append(row)
    return found


def table(found: Sequence[Row]) -> str:
    """Return the rows of each job as a Markdown table."""
    parts = []
    for job in dict.fromkeys(row.job for row in found):
        lines = [HEADER, ["---"] * len(HEADER), *(row.cells() for row in found if row.job == job)]
        text = "\n".join(
            "| " + " | ".join(" ".join(cell.replace("|", "/").split()) for cell in line) + " |" for line in lines
        )
        parts.append(f"**{job}**\n\n{text}\n")
    return "\n".join(parts)


def options(doc: str, jobs: Sequence[str], rounds: int = 5) -> argparse.Namespace:
    """Return the flags that the jobs share."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=jobs)
    parser.add_argument("--rounds", type=int, default=rounds, help="timed turns of each, after one for warm-up")
    parser.add_argument("--data-dir", type=Path, help="your own data in place of what is drawn or packaged")
    parser.add_argument("--score", action="store_true", help="validation scores in place of speeds")
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    return parser.parse_args()


def measure(job: str, contenders: Sequence[Contender], rounds: int, unit: str = "examples/s") -> list[Row]:
    """Let the contenders race and return the rows."""
    return rows(job, contenders, race(list(contenders), rounds), unit)


def scores(job: str, trained: dict[str, Callable[[], float]]) -> list[Row]:
    """Train each to its end, one after the other, and return the rows of their validation accuracies."""
    found = []
    for name, train in trained.items():
        try:
            found.append(Row(job, name, "val/acc", train()))
        except Exception as error:  # another trainer may be missing or broken: the rest goes on
            found.append(Row(job, name, note=f"not run: {type(error).__name__}: {error}"[:300]))
    return found


def show(found: Sequence[Row], to: Path | None) -> None:
    """Print the rows, and write them to a file if one is given."""
    print(table(found), flush=True)
    if to:
        to.write_text(json.dumps([asdict(row) for row in found]), encoding="utf-8")


def read(path: Path) -> list[Row]:
    """Return what `show` wrote."""
    items: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    for item in items:
        item |= {name: tuple(item[name]) for name in ("spread", "interval") if item.get(name)}
    return [Row(**item) for item in items]
