"""The page of a search: what it says, escapes and draws, from none to many trials; importances; TensorBoard."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import optuna
import pytest
from browser import Chromium, chromium_or_skip
from optuna import Study
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typing_extensions import override

from src.runs.tensorboard import TensorBoard
from src.studies import search_page
from src.studies.importance import estimate, importances
from src.studies.search_charts import Axis, axis_of, steps, value_axis

EVIL = "<script>alert('x')</script>"
VOID = ("meta", "br", "path", "circle", "line", "rect", "polyline")
SPACE: dict[str, Any] = {
    "optim.lr": FloatDistribution(1e-5, 1e-1, log=True),
    "mlp.width": IntDistribution(32, 512),
    "mlp.dropout": FloatDistribution(0, 0.5),
    "optim.name": CategoricalDistribution(["adamw", "sgd", None]),
    "optim.momentum": FloatDistribution(0, 0.99),
}
Trial = dict[str, Any]


def trial(number: int, value: float | None = None, *, state: str = "COMPLETE", **others: Any) -> Trial:
    """Return the values of a trial; the momentum is searched with sgd alone, the rate alone tells."""
    rng = random.Random(number)
    params: dict[str, Any] = {
        "optim.lr": 10 ** rng.uniform(-5, -1),
        "mlp.width": rng.randint(32, 512),
        "mlp.dropout": rng.uniform(0, 0.5),
        "optim.name": ("adamw", "sgd", None)[number % 3],
    }
    params |= {"optim.momentum": 0.5} if params["optim.name"] == "sgd" and others.pop("conditional", True) else {}
    score = 1 - 0.1 * abs(math.log10(params["optim.lr"]) + 3) if value is None and state == "COMPLETE" else value
    return {"number": number, "value": score, "state": state, "params": params, **others}


def study_of(trials: Sequence[Trial]) -> Study:
    study = optuna.create_study(direction="maximize")
    for one in trials:
        attributes = {"run": f"trial-{one['number'] + 1}", **one.get("attributes", {})}
        distributions = {name: SPACE.get(name, FloatDistribution(0, 1)) for name in one["params"]}
        study.add_trial(
            create_trial(
                state=TrialState[one["state"]],
                value=one["value"],
                params=one["params"],
                distributions=distributions,
                user_attrs=attributes,
                intermediate_values=one.get("intermediate", {}),
            )
        )
    return study


def many(**others: Any) -> list[Trial]:
    """Return 40 finished trials, two pruned, two failed of one cause, one of another, and one that runs."""
    return [
        *(trial(number, **others) for number in range(40)),
        trial(40, state="PRUNED", intermediate={1: 0.25, 3: 0.375}),
        trial(41, state="PRUNED"),
        *(trial(number, state="FAIL", attributes={"reason": "out of memory"}) for number in (42, 43)),
        trial(44, state="FAIL"),
        trial(45, state="RUNNING"),
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The directory of a search, with its record."""
    record = {
        "experiment": "experiments.houses.Houses",
        "state": "running",
        "fields": {"optim": {"lr": 0.001, "name": "adamw"}, "mlp": {"width": 256}},
        "search": {"metric": "val/acc", "mode": "max", "sampler": "tpe", "pruner": "median"},
    }
    (tmp_path / "run.json").write_text(json.dumps(record))
    return tmp_path


class Parsed(HTMLParser):
    """A page's tags and attributes, the rows of its tables, and whether all tags are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    @override
    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    @override
    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    @override
    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += " ".join(data.split())

    def row(self, first: str) -> list[str]:
        return next(row for row in self.rows if row[0].startswith(first))


def test_the_page_says_what_was_found(folder: Path) -> None:
    study = study_of(many())
    path = search_page.write(folder, study)
    assert path == folder / "search.html"
    text = path.read_text()
    found, best = Parsed(text), study.best_trial
    assert (
        f"<b>trial-{best.number + 1}</b> is the best, with <b>val/acc {best.value:.4f}</b> (higher is better)" in text
    )
    assert "46 trials: 40 finished, 2 pruned, 3 failed, 1 running." in text
    assert "a validation score, not a test score, and the highest of 40" in text
    assert found.row("optim.lr1e-05 to 0.1, logarithmic")[1:] == [f"{best.params['optim.lr']:.4g}", "0.001"]
    assert found.row("trial-41") == ["trial-41", "3", "0.3750", *found.row("trial-41")[3:]], "its last validation"
    assert found.row("out of memory")[1] == "2"
    assert found.row("no reason was recorded")[1] == "1"
    assert re.search(r"At work, or to be done again when the search goes on: trial-46\.", text)
    assert found.tags.count("polyline") == 1 + 40, "the best so far, and a line a finished trial"
    assert "STAND-IN" not in text


def test_the_page_needs_nothing_else(folder: Path) -> None:
    text = search_page.page(folder, study_of(many()))
    found = Parsed(text)
    assert not {"link", "img", "iframe", "object"} & set(found.tags)
    assert found.tags.count("script") == 1
    assert not [name for name, _ in found.attributes if name in ("src", "href", "xlink:href") or name.startswith("on")]
    assert not re.findall(r"url\(|@import|https?://", text)


def test_what_users_named_is_escaped(folder: Path) -> None:
    record = json.loads((folder / "run.json").read_text())
    record |= {"experiment": f"experiments.{EVIL}", "data": {"stand_in": True, "source": EVIL}}
    record["search"] |= {"metric": f"val/{EVIL}"}
    (folder / "run.json").write_text(json.dumps(record))
    trials = many()
    for one in trials:
        one["params"][EVIL] = 0.5
        one["attributes"] = {"run": f"{EVIL}-{one['number']}", "reason": EVIL}
    text = search_page.page(folder, study_of(trials))
    assert Parsed(text).tags.count("script") == 1, "the page's own"
    assert text.count("<script") == 1
    assert "STAND-IN data" in text


@pytest.mark.parametrize(
    ("trials", "said"),
    [
        ([], "No trial has finished yet (0 trials)"),
        ([trial(0, state="RUNNING")], "No trial has finished yet (1 trial: 1 running)"),
        ([trial(0, state="FAIL"), trial(1, state="PRUNED")], "(2 trials: 1 pruned, 1 failed)"),
        ([trial(0, 0.5)], "1 finished trial: too few to tell, 20 are needed."),
        ([trial(number, 0.5) for number in range(30)], "All finished trials have the same value."),
        ([trial(0, 0.5), trial(1, math.inf)], "inf is no number to compare"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_search_with_little_to_show_says_so(folder: Path, trials: list[Trial], said: str) -> None:
    study = study_of(trials)
    text = search_page.page(folder, study)
    Parsed(text)
    assert said in text
    assert importances(study) == {}
    assert 'class="bar"' not in text
    assert "nan" not in text.lower()


def test_a_trial_that_diverged_does_not_stretch_the_axis(folder: Path) -> None:
    text = search_page.page(folder, study_of([*(trial(number) for number in range(20)), trial(20, -1e9)]))
    assert "beyond the axis (1)" in text
    axis = value_axis("val/loss", [0.1, 0.2, 0.3, 0.4, 1e9], best=0.1)
    assert axis.low < 0.1
    assert axis.high == pytest.approx(0.4, abs=0.05)
    assert value_axis("val/acc", [0.9, 0.9, 0.9, 0.9, 0.1], best=0.9).low < 0.1, "half are the same: all are shown"


def test_what_was_confirmed_is_shown(folder: Path) -> None:
    record = json.loads((folder / "run.json").read_text())
    apart = {"mean": 0.004, "low": -0.003, "high": 0.011}
    means = [{"test/acc": 0.925, "best val/acc": 0.934}, {"test/acc": 0.921, "best val/acc": 0.93}]
    record["confirmed"] = {
        "seeds": [0, 1, 2],
        "metric": "test/acc",
        "best": means[0],
        "default": means[1],
        "differences": {"test/acc": apart, "best val/acc": {"mean": 0.004, "low": None, "high": None}},
    }
    (folder / "run.json").write_text(json.dumps(record))
    text = search_page.page(folder, study_of(many()))
    assert Parsed(text).row("test/acc") == ["test/acc", "0.9250", "0.9210", "+0.004 [-0.003, +0.011]"]
    assert Parsed(text).row("best val/acc")[3] == "+0.004"
    assert "over these seeds its setting has 0.9340 on average" in " ".join(text.split())


# -------------------------------------------------------------------------------------------------------- importances
def test_the_field_that_tells_is_the_important_one() -> None:
    for conditional, method in ((False, "fANOVA"), (True, "PED-ANOVA")):
        study = study_of([trial(number, conditional=conditional) for number in range(60)])
        found = importances(study)
        assert next(iter(found)) == "optim.lr"
        assert found["optim.lr"] > 0.5
        assert sum(found.values()) == pytest.approx(1)
        assert list(found.values()) == sorted(found.values(), reverse=True)
        assert estimate(study).method.startswith(f"{method}:")
        assert ("optim.momentum" in found) is conditional


def test_importances_of_other_ranges_are_told_too() -> None:
    """As of earlier runs, or of a search whose ranges were changed: fANOVA would leave the field out."""
    study = study_of([trial(number, conditional=False) for number in range(40)])
    for number in range(40, 60):
        one = trial(number, conditional=False)
        ranges: dict[str, Any] = {name: SPACE[name] for name in one["params"]} | {
            "optim.lr": FloatDistribution(1e-6, 1, log=True)
        }
        study.add_trial(create_trial(value=one["value"], params=one["params"], distributions=ranges))
    assert next(iter(importances(study))) == "optim.lr"


def test_importances_do_not_hang_on_a_trial_that_diverged() -> None:
    trials = [trial(number, conditional=False) for number in range(60)]
    diverged = [*trials, trial(60, -1e9, conditional=False)]
    assert importances(study_of(diverged))["optim.lr"] == pytest.approx(
        importances(study_of(trials))["optim.lr"], abs=0.1
    )


# ------------------------------------------------------------------------------------------------------------- charts
@pytest.mark.parametrize(
    ("axis", "labels"),
    [
        (Axis("a", 1e-5, 0.1, log=True), ["1e-5", "1e-4", "0.001", "0.01", "0.1"]),
        (Axis("a", 32, 512, log=True), ["50", "100", "200", "500"]),
        (Axis("a", 1e-8, 1, log=True), ["1e-8", "1e-6", "1e-4", "0.01", "1"]),
        (Axis("a", 1, 3, integer=True), ["1", "2", "3"]),
        (Axis("a", categories=("x", "y")), ["x", "y"]),
    ],
)
def test_ticks(axis: Axis, labels: list[str]) -> None:
    assert [text for _, text in axis.ticks] == labels
    assert all(0 <= at <= 1 for at, _ in axis.ticks)


def test_axes_are_of_the_domain() -> None:
    trials = study_of([trial(1)]).trials
    assert axis_of("optim.lr", trials).at(1e-3) == pytest.approx(0.5)
    assert axis_of("mlp.dropout", trials).at(0.125) == pytest.approx(0.25)
    assert axis_of("optim.name", trials).categories == ("adamw", "sgd", "None")
    assert axis_of("optim.name", trials).at(None) == pytest.approx(5 / 6)


def test_the_best_so_far_goes_in_steps() -> None:
    trials = study_of([trial(0, 0.5), trial(1, 0.2), trial(2, 0.8)]).trials
    x, value = Axis("trial", 1, 3), Axis("v", 0, 1)
    assert steps(trials, x, value, highest=True) == "0.0,50.0 50.0,50.0 100.0,50.0 100.0,20.0"
    assert steps(trials, x, value, highest=False) == "0.0,50.0 50.0,50.0 50.0,80.0 100.0,80.0"


# -------------------------------------------------------------------------------------------------------- TensorBoard
def test_tensorboard_has_the_best_trials_and_importances(folder: Path) -> None:
    tensorboard = TensorBoard(folder)
    search_page.log(tensorboard, study_of(many()))
    search_page.log(tensorboard, study_of([]))
    tensorboard.finalize("success")
    events = EventAccumulator(str(folder)).Reload()
    curve = [event.value for event in events.Scalars("search/best val/acc")]
    assert len(curve) == 40
    assert curve == sorted(curve)
    (first, second) = events.Tensors("search/importances/text_summary")
    assert "optim.lr" in first.tensor_proto.string_val[0].decode()
    assert "too few to tell" in second.tensor_proto.string_val[0].decode()
    (best,) = events.Tensors("search/best trials/text_summary")
    lines = best.tensor_proto.string_val[0].decode().splitlines()
    assert lines[0].startswith("trial | val/acc | optim.lr")
    assert len(lines) == 2 + 10


# ------------------------------------------------------------------------------------------------------------ browser
@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 400])
def test_chromium_shows_the_page_and_marks_a_range(folder: Path, tmp_path: Path, width: int) -> None:
    chromium_or_skip()
    path = search_page.write(folder, study_of(many()))
    with Chromium(tmp_path / "profile", width=width) as browser:
        browser.open(path.as_uri())
        browser.wait_for("History", "What mattered", "All fields at once")
        assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
        rows = "[...document.querySelectorAll('tr[data-run]')].filter(row => !row.hidden).length"
        assert browser.evaluate(rows) == 40
        browser.evaluate("document.querySelector('.parallel').scrollIntoView()")
        left, top, wide, high = browser.evaluate(
            "(() => { const box = document.querySelector('.parallel svg').getBoundingClientRect();"
            " return [box.left, box.top, box.width, box.height]; })()"
        )
        x = left + wide / 12  # the first of six axes
        for kind, y in (("mousePressed", top), ("mouseMoved", top + high / 3), ("mouseReleased", top + high / 3)):
            browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
        inside = browser.evaluate(rows)
        assert 0 < inside < 40
        assert f"{inside} of 40 trials are within the marked ranges." in browser.text()
        browser.evaluate("document.querySelector('.parallel button').click()")
        assert browser.evaluate(rows) == 40
