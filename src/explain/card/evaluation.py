"""The card's section of scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from src.configs import shown
from src.explain import drawings
from src.explain.card.blocks import Block, Bullets, Drawing, Section, Table, Text
from src.explain.card.by_group import FEW, Grouped
from src.explain.card.intervals import Score
from src.explain.card.reported import NAMES, Reported
from src.runs import records, result_tables
from src.runs.summary import of_calibration
from src.tasks.objectives.calibration import BINS

MOST_ROWS = 50
"""Classes whose figures are shown, the rarest first."""
DRAWN = {"reliability": "Calibration", "confusion": "Confusion", "labels": "Labels", "predictions": "Predictions"}
"""Names of an objective's figures -> titles."""


def evaluation(reported: Reported, grouped: Sequence[Grouped]) -> Section:
    """Return the section."""
    drawn = _drawings(reported)
    others = [drawing for name, drawing in drawn.items() if name != "reliability"]
    parts = [
        Section("Testing Data, Factors & Metrics", [Text(_read(reported)), Text(_of_intervals(reported))]),
        Section("Results", [*_results(reported), *others]),
        *_classes(reported),
        *(Section(f"Groups of {one.column}", _group(one)) for one in grouped),
        *_calibration(reported, [drawn["reliability"]] if "reliability" in drawn else []),
    ]
    return Section("Evaluation", [], parts)


def _read(reported: Reported) -> str:
    read, record = reported.record.get("tests_read", 0), reported.record
    if record.get("folds"):
        return f"{record['folds']} folds: each example was predicted by the fold's model that had not seen it."
    said = "The validation split chose the checkpoint."
    if not read and "test" not in reported.data["sizes"]:
        return f"{said} There is no test split."
    times = {0: "never read", 1: "read once"}.get(read, f"read {read} times")
    return f"{said} The test split was {times}."


def _of_intervals(reported: Reported) -> str:
    said = (
        "Intervals are of 95 % and say what chance in the choice of the examples explains; another seed is another "
        "matter. Shares have Wilson's, areas under the ROC curve DeLong's, all others the bootstrap's over examples. "
        "A score has none where every resample gives the same, as where nothing was wrong, or where none is computed."
    )
    if name := reported.group_column:
        said += f" They take rows for independent; those of one {name} are not, so they are too narrow."
    return said


# --------------------------------------------------------------------------------------------------------------- scores
def number(value: float) -> str:
    """Return a score with as many digits as the metrics of a run have, large ones with six in all."""
    return shown.metric(value) if not abs(value) >= 1000 else f"{value:.6g}"


def interval(score: Score | None) -> str:
    """Return an interval in words, '' for none."""
    return f"{number(score.interval[0])} to {number(score.interval[1])}" if score and score.interval else ""


def _results(reported: Reported) -> list[Block]:
    record = reported.record
    metrics: dict[str, float] = record["metrics"]
    if not metrics:
        return [Text("The run has logged no metric.")]
    spread = record.get("spread", {})
    if record.get("folds"):
        rows = [[name, number(value), number(spread[name])] for name, value in metrics.items()]
        found: list[Block] = [Table(["metric", "mean over the folds", "deviation"], rows)]
        for each in reported.evaluated:
            pooled = [[name, number(s.value), interval(s), s.how] for name, s in each.scores.items()]
            found.append(Text(f"All {len(each)} predictions {NAMES[each.split]} together:"))
            found.append(Table(["metric", "value", "95 % interval", "by"], pooled))
        return [*found, *_children(reported)]
    known = reported.known
    names = sorted(metrics, key=lambda name: not name.startswith("test/"))
    rows = [
        [name, number(metrics[name]), interval(known.get(name)), known[name].how if name in known else ""]
        for name in names
    ]
    counts = ", ".join(f"{len(each)} of {NAMES[each.split]}" for each in reported.evaluated)
    lead = [Text(f"Examples: {counts}.")] if counts else []
    return [*lead, Table(["metric", "value", "95 % interval", "by"], rows), *_children(reported), *_baselines(reported)]


def _children(reported: Reported) -> list[Block]:
    """Return what an ensemble gains over its members, and a row for each child."""
    record, found = reported.record, list[Block]()
    if len(reported.members) < 2:
        return found
    if "members" in record:
        header, *rows = result_tables.of_ensemble(record)
        found.append(Table([header[0] or "metric", *header[1:]], rows))
    children = [(path, records.load(path)) for path in reported.members]
    shares = record.get("shares", [1 / len(children)] * len(children))
    rows = [
        [
            path.name,
            child["experiment"].rpartition(".")[2],
            str(child["seed"]),
            f"{share:.2g}",
            f"{best['name']} {number(best['value'])}" if (best := child.get("best")) else "",
        ]
        for (path, child), share in zip(children, shares, strict=True)
    ]
    return [*found, Text("Its children:"), Table(["run", "experiment", "seed", "share", "best"], rows)]


def _baselines(reported: Reported) -> list[Block]:
    if not reported.record.get("baselines"):
        return []
    header, *rows = result_tables.beside_baselines(reported.record)
    return [Text("Beside baselines on the same data:"), Table(["model", *header[1:]], rows)]


def _classes(reported: Reported) -> list[Section]:
    found = result_tables.of_classes(reported.record)
    if not found:
        return []
    header, *rows = found
    split = "test" if reported.record["per_class"].get("test") else "val"
    more = [Text(f"{len(rows) - MOST_ROWS} more are in run.json.")] if len(rows) > MOST_ROWS else []
    title = "Classes" if reported.spec.target.kind == "single_label" else "Labels"
    table = Table(["name", *header[1:]], rows[:MOST_ROWS])
    return [Section(title, [Text(f"On {NAMES[split]}, the rarest first."), table, *more])]


def _group(one: Grouped) -> list[Block]:
    if one.left_out and all(group.score is None for group in one.groups):
        most = max(group.examples for group in one.groups)
        return [Text(f"{len(one.groups) + one.left_out} groups, the largest of {most} examples: too few to say.")]
    rows = [
        [group.name, str(group.examples), number(score.value), interval(score)]
        if (score := group.score)
        else [group.name, str(group.examples), "too few to say", ""]
        for group in one.groups
    ]
    found: list[Block] = [Table([one.column, "examples", f"{one.split}/{one.metric}", "95 % interval"], rows)]
    worst = one.worst
    if worst is None or worst.score is None:
        said = f"Fewer than two groups have {FEW} examples: nothing is said of differences."
    else:
        said = (
            f"Worst: {one.column} {worst.name}, {one.metric} {number(worst.score.value)} "
            f"({interval(worst.score) or 'no interval'}, {worst.examples} examples); all together have "
            f"{number(one.overall.value)}. "
        )
        said += (
            "That is more than chance in its examples explains, though it was picked as the worst of "
            f"{sum(group.score is not None for group in one.groups)}."
            if one.stands_out
            else "Chance in the choice of its examples may explain that."
        )
    more = f" {one.left_out} smaller groups are not shown." if one.left_out else ""
    return [*found, Text(said + more, loud=one.stands_out)]


# ---------------------------------------------------------------------------------------------------------- calibration
def _calibration(reported: Reported, drawn: Sequence[Drawing]) -> list[Section]:
    """Return what was chosen on validation, and what it gains."""
    found: dict[str, Any] = reported.record.get("calibration", {})
    lead = "On validation" if "temperature_tried" in found else "Chosen on validation"
    lines = [f"{lead}: {of_calibration(found).removeprefix('not: ')}."] if found else []
    if "ece_before" in found:
        lines.append(f"ece is the expected calibration error in {BINS} bins, before the temperature and after it.")
    if found.get("threshold") is not None:
        before, after = (number(found[f"balanced_acc_{when}"]) for when in ("before", "threshold"))
        lines.append(f"Balanced accuracy of the likeliest class {before}, by the threshold {after}.")
    if not (lines or drawn):
        return []
    said = Bullets(lines) if lines else Text("How often what is predicted comes true is drawn in card.html.")
    return [Section("Calibration", [said, *drawn])]


def _drawings(reported: Reported) -> dict[str, Drawing]:
    """Return what TensorBoard shows of the first evaluated split, by name."""
    if not reported.evaluated:
        return {}
    each = reported.evaluated[0]
    calibration = {"temperature": 1.0} | reported.record.get("calibration", {})
    figures = each.objective.figures(each.predicted, each.target, calibration)
    return {
        name: Drawing(f"{DRAWN.get(name, name)}, {NAMES[each.split]}", drawings.svg_of(figure, f"card {name}"))
        for name, figure in figures
    }


def best_of(record: dict[str, Any]) -> str:
    """Return which epoch was kept, in words."""
    best = record.get("best")
    if not best:
        return "the last epoch, since nothing is monitored"
    value = f"{best['name']} {number(best['value'])}"
    if "epoch" not in best:
        return value
    return f"{value} at epoch {best['epoch']}" if best["epoch"] else f"{value} before training, with the solved head"
