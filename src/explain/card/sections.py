"""The sections of a card, in the order of Hugging Face's template."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from src.configs.errors import InputError
from src.configs.jsonable import to_json
from src.deploy.licences import licence_of
from src.experiment import Experiment
from src.explain.card.blocks import Block, Bullets, Code, Section, Table, Text
from src.explain.card.by_group import Grouped
from src.explain.card.evaluation import best_of, evaluation
from src.explain.card.limits import limits
from src.explain.card.reported import Reported
from src.explain.kept import Kept
from src.explain.places import command_shown, own_name, place_of, source_shown
from src.loading import load
from src.runs import summary
from src.runs.compare.groups import flat, shown_value
from src.runs.exports import exports_of

MOST_CLASSES = 50
"""Classes whose counts are shown."""
ARTICLES = {"image": "an image", "text": "a text", "table": "a row of a table", "example": "an example"}


def sections(reported: Reported, grouped: Sequence[Grouped]) -> list[Section]:
    """Return all sections."""
    exports = exports_of(reported.run)
    return [
        Section("Model Details", [Text(what(reported)), _details(reported, [str(export) for export in exports])]),
        _uses(reported),
        Section(
            "Bias, Risks, and Limitations",
            [Text("It was not tested on:"), Bullets(limits(reported, grouped, exports))],
            _known(reported),
        ),
        Section("How to Get Started with the Model", _start(reported)),
        Section("Training Details", [], [_data(reported), _procedure(reported), _speed(reported)]),
        evaluation(reported, grouped),
        Section("Model Examination", _examined(reported)),
        Section("Environmental Impact", [Text(f"Energy: {energy(reported)}."), Text(_hours(reported))]),
        Section("Technical Specifications", [_machine(reported)]),
    ]


def what(reported: Reported) -> str:
    """Return in a sentence what the model predicts of what."""
    spec, of = reported.spec, ARTICLES[reported.input]
    name = f"{spec.target.name}: " if spec.target.name else ""
    names = ", ".join(spec.classes[:MOST_CLASSES]) + (", ..." if spec.num_classes > MOST_CLASSES else "")
    match spec.target.kind:
        case "single_label" if spec.classes:
            said = f"It predicts one class of {of} ({name}{names})"
        case "multi_label":
            said = f"It predicts any number of labels of {of} ({name}{names})"
        case "regression":
            said = f"It predicts a number for {of} ({spec.target.name or 'unnamed'})"
        case _:
            said = "It predicts what its own module returns"
    if count := reported.record.get("ensemble"):
        return f"{said}, as the mean of {count} networks that differ in the seed alone."
    if count := reported.record.get("folds"):
        return f"{said}, as the mean of {count} networks, each trained without one fold of the data."
    return f"{said}."


def _details(reported: Reported, exports: Sequence[str]) -> Table:
    record, first = reported.record, reported.first
    source = first["weights"]["source"]
    if source.startswith("none"):
        licence = "no weights of others went in"
    else:
        licence = licence_of(source) or "not known here: ask their source"
    git = record.get("git", {})
    dirty = ", with uncommitted changes (uncommitted.diff)" if git.get("dirty") else ""
    rows = [
        ["experiment", record["experiment"]],
        ["network", _network(first)],
        ["first weights", source_shown(source)],
        ["their licence", licence],
        ["run", str(reported.where)],
        ["started", record.get("started", "unknown")],
        ["commit", f"{git.get('commit') or 'unknown'}{dirty}"],
        ["exports", "; ".join(exports) or "none"],
    ]
    if fold := record.get("fold"):
        what = "of train and val, which validates" if fold.get("held_out") == "val" else "of a cross-validation"
        rows.append(["fold", f"{fold['number']} of {fold['count']} {what}"])
    return Table(["", ""], rows)


def _network(first: dict[str, Any]) -> str:
    model, backbone = first["model"], first["fields"].get("backbone", "")
    trained = f", {model['trained']:,} trained" if model["trained"] < model["parameters"] else ""
    return f"{model['name']}{' ' + backbone if backbone else ''}, {model['parameters']:,} parameters{trained}"


def _uses(reported: Reported) -> Section:
    out = [f"Inputs unlike its training data ({reported.data['source']})."]
    if reported.spec.target.kind == "single_label" and reported.spec.classes:
        out.append("Inputs of none of its classes: it names one of them all the same.")
    if reported.data["stand_in"]:
        out.append("Anything but trying out the code: its data are a STAND-IN.")
    direct = f"{what(reported)} What it is meant for is not in the record: whoever publishes it has to write that here."
    return Section("Uses", [], [Section("Direct Use", [Text(direct)]), Section("Out-of-Scope Use", [Bullets(out)])])


def _known(reported: Reported) -> list[Section]:
    """Return what the run noted of its data."""
    notes = reported.first["data"].get("notes", [])
    return [Section("Known of the data", [Bullets(notes)])] if notes else []


def _start(reported: Reported) -> list[Block]:
    run = str(reported.where)
    if not reported.first["data"].get("predicts_files", True):
        return [
            Text("Its data module cannot read files to predict. In Python:"),
            Code(f"import leyden\n\nmodel = leyden.load({run!r}).model()", "python"),
        ]
    return [
        Code(f"python scripts/predict.py {shlex.quote(run)} FILE_OR_FOLDER --out predictions.csv", "bash"),
        Code(f"import leyden\n\nrun = leyden.load({run!r})\nrun.predict([...])", "python"),
    ]


# ------------------------------------------------------------------------------------------------------------- training
def _data(reported: Reported) -> Section:
    data, of_first = reported.data, reported.first["data"]
    loud = data["stand_in"]
    source = f"{'STAND-IN: ' if loud else ''}{data['source']}"
    lead = f"{source}; splits: {data['split']}; fingerprint {data['fingerprint']}."
    blocks: list[Block] = [Text(lead, loud=loud)]
    if reported.record.get("folds"):
        blocks.append(Text("Examples of the first fold:"))
    sizes, counts = of_first["sizes"], of_first.get("class_counts", {})
    blocks.append(Table(["split", "examples"], [[split, str(size)] for split, size in sizes.items()]))
    if counts:
        names = list(next(iter(counts.values())))
        rows = [[name, *(str(counts[split].get(name, 0)) for split in counts)] for name in names[:MOST_CLASSES]]
        blocks.append(Table(["name", *counts], rows))
        if len(names) > MOST_CLASSES:
            blocks.append(Text(f"{len(names) - MOST_CLASSES} more are in run.json."))
    if columns := of_first.get("columns"):
        blocks.append(Text(f"Columns: {columns['summary']}."))
    quarantine = reported.record["fields"].get("quarantine")
    left_out = own_name(quarantine) if quarantine else "no list of examples was left out"
    blocks.append(Text(f"Quarantine: {left_out}."))
    return Section("Training Data", blocks)


def _procedure(reported: Reported) -> Section:
    record, fields = reported.record, reported.record["fields"]
    said = [
        f"{summary.recipe(fields, reported.first['steps'])}.",
        f"Seed {record['seed']}. Kept: {best_of(record)}. Ended: {record.get('reason', '')}.",
    ]
    if found := reported.first.get("sized"):
        said.append(f"For {found['rows']} training rows: {summary.differences(found['was'], fields)}.")
    return Section(
        "Training Procedure",
        [
            *map(Text, said),
            Table(["field", "value", "base", "set by"], recipe(record), "Every field that is not as its base has it"),
        ],
    )


def recipe(record: dict[str, Any]) -> list[list[str]]:
    """Return field, value, what its base has, and who set it: the experiment, a flag, the number of rows or what the
    machine lacked.

    The base is `Experiment`, and for values within a field the field's type; an experiment's own fields have none.
    """
    base, now = flat(Experiment().to_json()), flat(record["fields"], without=("seed",))
    try:
        experiment = load(record["experiment"])()
    except (InputError, ImportError, TypeError):  # of other code, or of a notebook
        own: dict[str, Any] = {}
    else:
        own = flat(experiment.to_json())
        for field in dataclasses.fields(experiment):
            kind: Any = type(getattr(experiment, field.name))
            if hasattr(kind, "__dataclass_fields__"):
                with contextlib.suppress(TypeError):  # a type whose values have no defaults
                    base |= flat({field.name: to_json(dataclasses.asdict(kind()))})
    sized, asked = flat(record.get("sized", {}).get("was", {})), flat(record.get("asked", {}))
    rows: list[list[str]] = []
    for name, value in now.items():
        if name in base and base[name] == value:
            continue
        by = "flag" if own and own.get(name) != value else "experiment" if own else ""
        by = "number of rows" if name in sized and sized[name] != value else by
        by = "what the machine lacked" if name in asked else by
        rows.append([name, own_name(shown_value(value)), shown_value(base[name]) if name in base else "", by])
    return rows


def _speed(reported: Reported) -> Section:
    record, first = reported.record, reported.first
    speed = first.get("samples_per_s")
    rows = [
        ["wall time", f"{record['wall_s']:.1f} s"],
        ["examples a second", f"{speed:,.{0 if speed >= 100 else 1}f} while training" if speed else "not measured"],
        ["peak memory", _memory(reported)],
    ]
    if spent := first.get("time"):
        parts = ", ".join(f"{summary.PARTS.get(part, part)} {share:.0%}" for part, share in spent.items())
        rows.append(["time went to", parts])
    return Section("Speeds, Sizes, Times", [Table(["", ""], rows)])


# ----------------------------------------------------------------------------------------------------------------- rest
def _examined(reported: Reported) -> list[Block]:
    first = reported.members[0]
    if not reported.checked:
        command = f"python scripts/explain.py {shlex.quote(str(place_of(first)))} FILE"
        return [Text(f"Its answers were not explained ({command}).")]
    found = [block for method, checks in reported.checked.items() for block in _checked(method, checks, first)]
    return [Text(f"Of {len(reported.members)} networks, the first:"), *found] if len(reported.members) > 1 else found


def _checked(method: str, found: Kept, run: Path) -> list[Block]:
    """Return what the checks said of the explanations by one method."""
    of = f", checked on {found.examples:,} validation example{'s' * (found.examples > 1)}" if found.examples else ""
    command = command_shown(found.command, run)
    made = " ".join(["Made", *([found.made] if found.made else []), *(["by", command] if command else [])])
    return [
        *(Text(warning, loud=True) for warning in found.warnings),
        Text(f"Explained by {method}{of}."),
        *([Text(f"{made}.")] if found.made or command else []),
        *([Bullets(found.lines)] if found.lines else []),
    ]


def energy(reported: Reported) -> str:
    """Return what the training took, as far as its machine told it."""
    told, on_gpu = reported.first.get("energy_j", {}), reported.first["device"].startswith("cuda")
    of = "" if len(reported.members) == 1 else f"; the first of {len(reported.members)} networks"
    whose = {"processors": "the machine's processors, all its programs included", "gpu": "the first GPU"}
    if not on_gpu and "processors" not in told:
        return "not measured: the machine did not tell (Linux does in /sys/class/powercap, mostly to root alone)"
    said = [f"{told[name] / 3600:.3g} Wh by {who}" for name, who in whose.items() if name in told]
    if on_gpu and "gpu" not in told:
        said.append("by the GPU not measured: it tells where nvidia-ml-py is installed")
    return "; ".join(said) + of


def _memory(reported: Reported) -> str:
    peak = reported.first.get("peak_memory", {})
    whose = {"process": "of the main process since it began", "gpu": "of tensors on the first GPU"}
    return (
        "; ".join(f"{peak[name] / 1e9:.2f} GB {who}" for name, who in whose.items() if name in peak) or "not recorded"
    )


def _hours(reported: Reported) -> str:
    return f"Hardware: {reported.first['device']}. Hours used: {reported.record['wall_s'] / 3600:.2g}."


def _machine(reported: Reported) -> Table:
    first, record = reported.first, reported.record
    versions = ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())
    rows = [
        ["network", _network(first)],
        ["device", first["device"]],
        ["precision", first["precision"]],
        ["the same numbers again", first.get("reproducible", "not recorded")],
        ["software", versions],
    ]
    return Table(["", ""], rows)
