"""What a search says before and after."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from src.configs import shown
from src.configs.changes import with_fields
from src.configs.flags import flags
from src.configs.search import Search, value_of
from src.experiment import Experiment
from src.resources.files import ROOT
from src.runs import summary
from src.studies import confirmation
from src.studies.samplers import grid, planned
from src.studies.trial_lines import setting_value
from src.terminal import console

ENDS = {"PRUNED": "pruned", "FAIL": "failed", "RUNNING": "not at their end"}
"""Of trials that are not complete."""
BEST = 5
"""Trials that are shown at the end."""


def before(experiment: Experiment, search: Search, folder: Path, study: Any) -> None:
    """Print what is searched, and how far that is."""
    console.title(f"search of {type(experiment).__name__}, seed {experiment.seed}  ({type(experiment).__module__})")
    for number, (name, domain) in enumerate(search.space.items()):
        console.line("" if number else "space", f"{name}={domain.text()}")
    count = f"{planned(search)} trials"
    if search.sampler == "grid" and (settings := len(grid(search.space))) > search.trials:
        count += f" of {settings} settings (--trials {settings} for all)"
    better = "highest" if experiment.mode == "max" else "lowest"
    console.line("search", f"{count}, {search.sampler}, pruner {search.pruner}; the {better} {experiment.monitor}")
    if done := [one for one in study.get_trials(deepcopy=False) if "imported" not in one.user_attrs]:
        left = sum(not one.state.is_finished() for one in done)
        console.line("so far", f"{len(done)} trials" + (f", {left} of them not at their end" if left else ""))
    console.line("run", f"{folder}; what a trial prints is in its output.txt")


def after(record: Mapping[str, Any], experiment: Experiment, study: Any, page: Path) -> None:
    """Print the best trials, the best setting, whether it is better than the default, and where all that is."""
    trials, best = study.get_trials(deepcopy=False), record["best"]
    states = [one.state.name for one in trials if "imported" not in one.user_attrs]
    known = len(trials) - len(states)
    counts = [
        f"{len(states)} trials" + (f" and {known} earlier runs" if known else ""),
        *(f"{states.count(name)} {said}" for name, said in ENDS.items() if name in states),
    ]
    stand_in = "  (on STAND-IN data)" if record["data"]["stand_in"] else ""
    console.title(f"\nbest of {', '.join(counts)}{stand_in}")
    console.table(best_rows(trials, best, list(record["search"]["space"])))
    if found := record.get("confirmed"):
        console.line("chosen", confirmation.noise(found, best))
        console.line("confirmed", confirmation.verdict(found, best["mode"]))
    console.line("time", f"{record['wall_s']:.1f} s")
    changed = changes(experiment, record["setting"])
    words = flags(with_fields(experiment, record["setting"]), without=("seed",))
    for number, line in enumerate(class_of(experiment, changed, record).splitlines()):
        print(f"{'' if number else 'class':<{console.LABEL}} {line}".rstrip(), flush=True)
    console.command("run", f"{summary.installed('python')} scripts/run.py {target(experiment)} {shlex.join(words)}")
    console.line("page", str(page))
    for command in summary.show_curves(page) if "tensorboard" in experiment.logger else []:
        console.command("curves", command)


def best_rows(trials: Sequence[Any], best: Mapping[str, Any], space: Sequence[str]) -> list[list[str]]:
    """Return a table of the best trials, the best first."""
    done = [one for one in trials if one.state.name == "COMPLETE" and "same_as" not in one.user_attrs]
    done.sort(key=lambda one: one.value if best["mode"] == "min" else -one.value)
    rows = [
        [
            f"trial {one.number + 1}",
            shown.metric(one.value),
            *(setting_value(one.params[name]) if name in one.params else "" for name in space),
            one.user_attrs["run"],
        ]
        for one in done[:BEST]
    ]
    return [["", best["name"], *space, "run"], *rows]


def changes(experiment: Experiment, setting: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields in which the best setting differs from the experiment's class, nested ones with a dot."""
    default = type(experiment)()
    own = {name: value for name, value in leaves(experiment).items() if name != "seed"}
    changed = {name: value for name, value in own.items() if name not in setting and value_of(default, name) != value}
    return changed | {name: value for name, value in setting.items() if value_of(default, name) != value}


def leaves(config: Any, within: str = "") -> dict[str, Any]:
    """Return all fields of a dataclass, those of dataclasses in it with a dot."""
    found: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        inner = is_dataclass(value)
        found |= leaves(value, f"{within}{field.name}.") if inner else {f"{within}{field.name}": value}
    return found


def target(experiment: Experiment) -> str:
    """Return how run.py is told of an experiment."""
    module = sys.modules[type(experiment).__module__]
    file = Path(getattr(module, "__file__", None) or f"{module.__name__.replace('.', '/')}.py")
    place = file.relative_to(ROOT) if file.is_relative_to(ROOT) else file
    name = "" if getattr(module, "DEFAULT", None) is type(experiment) else f":{type(experiment).__name__}"
    return shlex.quote(f"{place}{name}")


def class_of(experiment: Experiment, changed: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """Return a class with the best setting, to be put into the experiment's file."""
    base, best = type(experiment).__name__, record["best"]
    doc = f"The best of {record['reason'].partition(':')[0]}: {best['name']} {shown.metric(best['value'])}"
    if found := record.get("confirmed"):
        doc += f"; {found['metric']} {shown.metric(found['best'][found['metric']])} over {len(found['seeds'])} seeds"
    lines = [f"class {base}Tuned({base}):", f'    """{doc}."""', ""]
    if not changed:
        return "\n".join([*lines[:2], "    # the default is the best"])
    tops: dict[str, dict[str, Any]] = {}
    for name, value in changed.items():
        top, _, rest = name.partition(".")
        tops.setdefault(top, {})[rest] = value
    body = [f"    {top} = {changed_value(f'{base}.{top}', inner)}" for top, inner in tops.items()]
    imports = ["from pathlib import Path"] if any(isinstance(value, Path) for value in changed.values()) else []
    imports += ["from src.experiment import replace"] if any("." in name for name in changed) else []
    return "\n".join([*imports, *([""] if imports else []), *lines, *body])


def changed_value(was: str, inner: Mapping[str, Any]) -> str:
    """Return the code of a value: itself, or what `was` is with some of its fields replaced."""
    if "" in inner:
        value = inner[""]
        return f"Path({str(value)!r})" if isinstance(value, Path) else repr(value)
    tops: dict[str, dict[str, Any]] = {}
    for name, value in inner.items():
        top, _, rest = name.partition(".")
        tops.setdefault(top, {})[rest] = value
    parts = [f"{top}={changed_value(f'{was}.{top}', below)}" for top, below in tops.items()]
    return f"replace({was}, {', '.join(parts)})"
