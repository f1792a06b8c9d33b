"""An ablation as a table: in the terminal, as Markdown and LaTeX for a paper, and as CSV with full numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from src.resources.files import atomic_write
from src.studies.ablation.design import label
from src.studies.ablation.results import COSTS, FEWEST, Figure, Row
from src.terminal import console

NONE = "-"
IN_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def write(folder: Path, record: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Write `ablation.md`, `ablation.tex` and `ablation.csv`."""
    atomic_write(folder / "ablation.md", as_markdown(record, rows))
    atomic_write(folder / "ablation.tex", as_latex(record, rows))
    atomic_write(folder / "ablation.csv", as_csv(rows))


def show(folder: Path, record: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Print the table, what it is of, which runs failed, and how to run each row alone."""
    console.title(f"\n{title(record)}")
    console.table(cells(rows))
    for line in notes(record, rows):
        console.line("", line)
    for name, why in record["ablation"]["failed"].items():
        console.line("failed", f"{name}: {why}")
    for place, row in enumerate(rows):
        console.command("" if place else "alone", row.command)
    console.line("run", f"{folder}; the table in ablation.md, ablation.tex and ablation.csv")


def title(record: Mapping[str, Any]) -> str:
    name = record["experiment"].rpartition(".")[2]
    loud = " (on STAND-IN data)" if record["data"]["stand_in"] else ""
    return f"Ablation of {name} on {record['data']['source']}{loud}"


def notes(record: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    """Return the sentences that a reader of the table needs."""
    asked, best, data = record["ablation"], record["best"], record["data"]
    better = "lower" if best["mode"] == "min" else "higher"
    examples = data["sizes"].get("val", "")
    chosen = (
        f"{best['name']} ({better} is better) is that of the best checkpoint, which it has chosen; all runs have the "
        f"same {examples} validation examples."
    )
    seeds = ", ".join(map(str, asked["seeds"]))
    found = [chosen, f"Differences: variant minus full recipe with the same seed; seeds {seeds}."]
    if len(asked["seeds"]) == 1:
        found.append("One seed: what another one would give is not known. --seeds 0 1 2 gives intervals.")
    elif len(asked["seeds"]) < FEWEST:
        found.append("Two seeds: both differences stand behind their mean, in place of an interval.")
    else:
        tested = sum(row.figures[best["name"]].p is not None for row in rows if best["name"] in row.figures)
        test = f"; p of the paired t-test, after Holm's correction for {tested} comparisons" if tested else ""
        found.append(f"Mean, standard deviation and 95 % interval (Student's t) over the seeds{test}.")
    if any(figure.beyond for row in rows for figure in row.figures.values()):
        found.append("Beyond: the difference of a pair less the sum of the two alone, their interaction.")
    if any(len(row.seeds) >= FEWEST and alike(row.figures.get(best["name"])) for row in rows):
        found.append("There is no interval where the difference is the same with each seed.")
    if few := [label(row.without) for row in rows if len(row.seeds) < len(asked["seeds"])]:
        found.append(f"Not all seeds are done: {'; '.join(few)}.")
    return found


def alike(figure: Figure | None) -> bool:
    """Return whether all seeds have the same difference."""
    return figure is not None and figure.difference is not None and figure.difference.low is None


def cells(rows: Sequence[Row]) -> list[list[str]]:
    """Return a header and a row for the full recipe and each variant."""
    names = list(dict.fromkeys(name for row in rows for name in row.figures))
    several = any(len(row.seeds) >= FEWEST for row in rows)
    found = [["", "n"], *([label(row.without), str(len(row.seeds))] for row in rows)]
    for name in names:
        figures = [row.figures.get(name) for row in rows]
        parts = ["values", "difference", "p_holm", "beyond"]
        parts = [part for part in parts if any(getattr(figure, part, None) is not None for figure in figures)]
        header = {"values": COSTS.get(name, name), "difference": "difference", "p_holm": "p (Holm)", "beyond": "beyond"}
        if several:
            header["difference"] += " [95 % interval]"
        found[0] += [header[part] for part in parts]
        mean = next(figure.values.mean for figure in figures if figure)
        places = 1 if name in COSTS else decimals(mean)
        for figure, line in zip(figures, found[1:], strict=True):
            line += [_cell(figure, part, places) for part in parts]
    return found


def _cell(figure: Figure | None, part: str, places: int) -> str:
    found = getattr(figure, part, None)
    if found is None:
        return NONE
    if part == "p_holm":
        return f"{found:.3f}" if found >= 1e-3 else "< 0.001"
    if part == "values":
        spread = f" ± {found.sd:.{places}f}" if found.sd is not None else ""
        return f"{found.mean:.{places}f}{spread}"
    mean = f"{found.mean:+.{places}f}"
    low, high = found.pair or (found.low, found.high)
    if low is None or high is None:
        return mean
    between = f"{low:+.{places}f}, {high:+.{places}f}"
    return f"{mean} ({between})" if found.pair else f"{mean} [{between}]"


def decimals(value: float) -> int:
    """Return the decimals of all numbers of a column: four for shares, fewer for large ones, three digits of small."""
    size = abs(value)
    if not math.isfinite(size) or size == 0:
        return 4
    return max(4, 2 - math.floor(math.log10(size))) if size < 10 else 2 if size < 1000 else 0


def as_markdown(record: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """Return a section with the table, its notes, and a command for each row."""
    header, *body = ([cell.replace("|", "\\|") for cell in line] for line in cells(rows))
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *body]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    failed = "".join(f"\n- failed: `{name}`: {why}" for name, why in record["ablation"]["failed"].items())
    commands = "\n".join(row.command for row in rows)
    text = " ".join(notes(record, rows))
    return f"## {title(record)}\n\n{table}\n\n{text}\n{failed}\nEach row alone:\n\n```\n{commands}\n```\n"


def as_latex(record: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """Return a table for LaTeX with the package booktabs."""
    header, *body = cells(rows)
    names = [label(row.without, lambda name: f"\\texttt{{{tex(name)}}}") for row in rows]
    lines = [
        " & ".join([name, *("--" if cell == NONE else tex(cell) for cell in line[1:])])
        for name, line in zip(names, body, strict=True)
    ]
    commands = "\n".join(f"% {row.command}" for row in rows)
    return "\n".join(
        [
            "% \\usepackage{booktabs}; each row alone:",
            commands,
            r"\begin{table}",
            r"  \centering",
            f"  \\caption{{{tex(title(record))}. {tex(' '.join(notes(record, rows)))}}}",
            r"  \label{tab:ablation}",
            f"  \\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
            r"    \toprule",
            f"    {' & '.join(map(tex, header))} \\\\",
            r"    \midrule",
            *(f"    {line} \\\\" for line in lines),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def tex(text: str) -> str:
    """Return a text for LaTeX, its negative numbers in mathematics."""
    escaped = "".join(IN_TEX.get(sign, sign) for sign in text)
    return re.sub(r"(?<![\w.-])([+-][\d.]+(?:e-?\d+)?)", r"$\1$", escaped)


def as_csv(rows: Sequence[Row]) -> str:
    """Return a row for the full recipe and each variant, with full numbers; a column only for what some row has."""
    names = list(dict.fromkeys(name for row in rows for name in row.figures))
    return pd.DataFrame([_flat(row, names) for row in rows]).dropna(axis="columns", how="all").to_csv(index=False)


def _flat(row: Row, names: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"recipe": label(row.without), "seeds": " ".join(map(str, row.seeds))}
    for name in names:
        figure = row.figures.get(name)
        for part, kind in (("values", ""), ("difference", "_difference"), ("beyond", "_beyond")):
            of = getattr(figure, part, None)
            found |= {f"{name}{kind}_{end}": getattr(of, end, None) for end in ("mean", "sd", "low", "high")}
        found |= {f"{name}_{part}": getattr(figure, part, None) for part in ("p", "p_holm")}
    return found | {"command": row.command}
