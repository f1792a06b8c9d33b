"""The page of explanations: warns first, escapes, loads nothing; and, slow, as Chromium shows it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import made
import numpy as np
import pytest
from browser import Chromium, chromium_or_skip
from made_runs import record_of
from markupsafe import escape
from matplotlib.figure import Figure
from parsed import Parsed

from src.configs.errors import InputError
from src.explain.checks import Checks
from src.explain.explanation import Explanations, Neighbour
from src.explain.page import Head, page, write
from src.explain.wording import cell, number, percent, signed

EVIL = "<script>alert('x')</script>"
HEAD = Head(
    run=Path("runs/Cats/20261129T120000Z-1a2b"),
    experiment="Cats",
    trained="2026-11-29T12:00:00Z",
    scores={"val/acc": 0.9812},
    data="folder /data/cats",
    command="scripts/explain.py runs/Cats/20261129T120000Z-1a2b photos",
)
PRICES = replace(HEAD, predicts="regression")
LABELS = replace(HEAD, predicts="multi_label")


def figure() -> Figure:
    found = Figure(figsize=(4, 2))
    found.subplots().barh(["OverallQual", f"Area {EVIL}"], [0.2, 0.1])
    return found


TWO_SPOTS = np.zeros((30, 30))
TWO_SPOTS[14:16, 2:4], TWO_SPOTS[14:16, 26:28] = 1, 0.9


ALL: dict[str, tuple[Explanations, Head]] = {
    "image": (made.explanations(made.image(0), made.image(1, side=28, negative=True, right=False)), HEAD),
    "text": (made.explanations(made.text(0), made.text(1, expected="neg")), HEAD),
    "table": (made.explanations(made.row(0)), PRICES),
    "long unit": (
        Explanations(
            [made.row(0)], "KernelSHAP", made.checks(), {}, [], unit="standard deviations of the training's targets"
        ),
        PRICES,
    ),
    "unsigned": (
        Explanations(
            [replace(made.text(), values=np.abs(made.text().values), error=None)],
            "attention rollout",
            made.checks(),
            {},
            [],
            signed=False,
        ),
        HEAD,
    ),
    "bad": (made.explanations(made.image(0), good=False), replace(HEAD, stand_in=True)),
}


@pytest.mark.parametrize("name", ALL)
def test_page_is_whole_and_needs_nothing_else(name: str) -> None:
    text = page(*ALL[name], overall=[("Importance", figure())])
    found = Parsed(text)
    assert text.startswith("<!DOCTYPE html>")
    assert found.open == []
    assert not {"link", "iframe", "object", "base"} & set(found.tags)
    loads = [value for name, value in found.attributes if name in ("src", "href", "xlink:href", "srcset", "action")]
    assert all(value.startswith(("#", "data:image/png;base64,")) for value in loads)
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert not re.findall(r"url\((?!#)|@import", text)


def test_script_is_the_one_that_the_policy_allows() -> None:
    text = page(*ALL["image"])
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in text


def test_the_warning_stands_before_anything_else_and_beside_each_explanation() -> None:
    explanations, head = ALL["bad"]
    found = Parsed(page(explanations, head))
    reasons = explanations.checks.warnings
    assert len(reasons) == 2
    assert found.shown.lstrip().startswith(f"Do not trust these explanations {' '.join(reasons)} Why Cats")
    assert found.shown.count("not to be trusted") == len(explanations)
    assert "STAND-IN data" in found.shown
    good = Parsed(page(*ALL["image"])).shown
    assert "trust" not in good
    assert "These explanations beat chance, change with the network's weights" in good


def test_of_one_input_nothing_is_claimed() -> None:
    shown = Parsed(page(made.explanations(made.text(), one=True), HEAD)).shown
    assert "cannot be told from a single input" in shown
    assert "no interval for one" in shown
    unchecked = made.explanations(made.text())
    unchecked.checks = replace(unchecked.checks, cascade=[])
    shown = Parsed(page(unchecked, HEAD)).shown
    assert "was not checked" in shown
    assert "With randomised weights" not in shown


def test_all_that_was_measured_and_what_was_explained_are_told() -> None:
    explanations, head = ALL["table"]
    shown = Parsed(page(explanations, head)).shown
    for said in [*explanations.checks.lines().values(), explanations.method, *explanations.notes]:
        assert said in shown
    for said in (str(head.run), head.data, head.command, head.trained, "val/acc 0.981", "layer4 +0.41"):
        assert said in shown, said


def test_words_stand_in_their_order_and_carry_their_sign_without_colour() -> None:
    text = page(made.explanations(made.text()), HEAD)
    (words,) = re.findall(r'<p class="words">(.*?)</p>', text)
    assert re.sub(r"<.*?>", "", words).split() == made.REVIEW.split()
    marked = dict(re.findall(r'<mark class="(for|against)"[^>]*>([^<]*)</mark>', words)[::-1])
    assert marked == {"for": "superb,", "against": "little,"}
    assert re.findall(r'style="--shade: 100"[^>]*>([^<]*)<', words) == ["superb,"]
    assert '<span title="+0.0' in words or '<span title="\N{MINUS SIGN}0.0' in words
    drawn = {name: re.findall(rf"mark\.{name} {{[^}}]*}}", text)[0] for name in ("for", "against")}
    assert "solid" in drawn["for"]
    assert "dotted" in drawn["against"]


def test_columns_have_value_quantile_error_and_come_by_importance() -> None:
    found = Parsed(page(*ALL["table"])).shown
    assert "OverallQual 8 83.0 % +41,200 ± 6,199 GrLivArea 2090 88.0 % +33,800" in found
    assert "YearBuilt 1956 33.0 % \N{MINUS SIGN}9,800" in found
    assert "Alley (empty) \N{MINUS SIGN}400" in found
    assert "7 more" in found
    assert "Answer 287,400 ; expected 301,500, the answer is 14,100 too low" in found
    assert "310000 0.990" in found


@pytest.mark.parametrize(
    ("head", "given", "expected", "said", "answer"),
    [
        (HEAD, None, "cat", "✓ right", "Answer cat, 97.3 %"),
        (HEAD, None, "dog", "✗ wrong", "Answer cat, 97.3 %"),
        (HEAD, None, "", "", "Answer cat, 97.3 %"),
        (replace(HEAD, asked="cat"), None, "dog", "", "Asked about cat, 97.3 %"),
        (LABELS, True, "furry; cat", "✓ right", "Likeliest label cat, 97.3 % (given)"),
        (LABELS, True, "furry", "✗ wrong", "Likeliest label cat, 97.3 % (given)"),
        (LABELS, False, "furry; cat", "✗ wrong", "Likeliest label cat, 97.3 % (not given)"),
        (replace(LABELS, mistakes=True), False, "furry", "✓ right", "Most wrong label cat, 97.3 % (not given)"),
        (replace(LABELS, asked="cat"), False, "", "", "Asked about cat, 97.3 % (not given)"),
    ],
)
def test_right_and_wrong_are_told_where_they_are_known(
    head: Head, given: bool | None, expected: str, said: str, answer: str
) -> None:
    """A label is given as the run's thresholds decide, whatever its probability."""
    shown = Parsed(page(made.explanations(replace(made.image(), expected=expected, given=given)), head)).shown
    assert re.findall("[✓✗] (?:right|wrong)", shown) == [said] * bool(said)
    assert answer in shown


def test_neighbours_and_what_is_odd_about_them_are_shown() -> None:
    text = page(made.explanations(made.image()), HEAD)
    shown = Parsed(text).shown
    assert "train/dog/0817.jpg: labelled dog among cat: perhaps mislabelled" in shown
    assert text.count('<li class="found">') == 1
    assert text.count('alt="Training example ') == 5
    assert (
        "the network takes for alike"
        not in Parsed(page(made.explanations(replace(made.image(), neighbours=())), HEAD)).shown
    )


def test_whatever_the_user_names_is_escaped() -> None:
    near = (Neighbour(EVIL, EVIL, 0.5, EVIL, EVIL),)
    words = replace(made.text(), id=EVIL, target=EVIL, expected=EVIL, neighbours=near)
    words = replace(words, names=(EVIL, *words.names[1:]))
    explanations = Explanations(
        [words], EVIL, replace(made.checks(), cascade=[(EVIL, 0.5)], doubts=[EVIL]), {EVIL: EVIL}, [EVIL]
    )
    head = Head(
        run=Path(EVIL),
        experiment=EVIL,
        trained=EVIL,
        scores={EVIL: 1},
        data=EVIL,
        weights=EVIL,
        command=EVIL,
        asked=EVIL,
    )
    table = replace(made.row(), names=(EVIL, *made.row().names[1:]), cells=(EVIL, *made.row().cells[1:]))
    image = replace(made.image(), id=f'"{EVIL}')
    for shown in (explanations, made.explanations(table), made.explanations(image)):
        text = page(shown, head, [(EVIL, figure())])
        assert "<script>alert" not in text
        assert text.count("<script") == 1
        assert Parsed(text).open == []


def test_ids_of_two_figures_are_unlike() -> None:
    text = page(*ALL["table"], overall=[("one", figure()), ("two", figure())])
    clips = re.findall(r'<clipPath id="(\w+)"', text)
    assert len(clips) == len(set(clips)) >= 2
    assert "the drawn one" in page(*ALL["table"], overall=[("x", "<?xml?><svg><text>the drawn one</text></svg>")])


@pytest.mark.parametrize(
    ("values", "place"),
    [
        (np.zeros((8, 8)), ""),
        (np.full((8, 8), -1.0), ""),
        (np.ones((8, 8)), "strongest at the centre"),
        (np.eye(8)[::-1] * (np.arange(8) > 5), "strongest at the upper right"),
        (TWO_SPOTS, "strongest at the left"),
    ],
)
def test_where_a_map_is_strongest_is_told(values: np.ndarray, place: str) -> None:
    text = page(made.explanations(replace(made.image(side=8), values=values)), HEAD)
    assert (f"What speaks for cat: {place}" if place else "Nothing speaks for cat") in text
    assert f'alt="The map over the image: {place or "nothing speaks for the answer"}"' in text


def test_of_a_long_text_the_words_that_count_are_listed() -> None:
    rng = np.random.default_rng(0)
    names = tuple(f"word{number}" for number in range(3000))
    found = replace(made.text(), values=rng.normal(size=3000), names=names, error=None)
    text = page(made.explanations(found), HEAD)
    assert text.count('role="rowheader"') == 100
    assert "The other 2900 count for less" in text
    assert all(f">{name}<" in text for name in names)


def test_texts_and_rows_without_any_weight_are_shown() -> None:
    for one in (made.text(), made.row(), replace(made.text(), values=np.zeros(0), names=(), error=None)):
        found = replace(one, values=np.zeros(len(one.names)), error=None)
        shown = Parsed(page(made.explanations(found), HEAD)).shown
        assert "±" not in shown
        assert "Every value is 0: nothing follows from this." in shown
    exact = replace(made.row(), error=np.zeros(len(made.ROW)))
    assert "±" not in Parsed(page(made.explanations(exact), PRICES)).shown
    assert "± and the whisker: 95 % interval" in Parsed(page(made.explanations(made.row()), PRICES)).shown


# ---------------------------------------------------------------------------------------- what values are, and are not
def test_values_without_a_sign_say_only_where_the_network_looks() -> None:
    for each in (made.image(), made.text()):
        looked = made.explanations(replace(each, values=np.abs(each.values), error=None))
        before = Parsed(page(looked, HEAD)).shown
        assert "speaks for" in before
        looked.signed = False
        text = page(looked, HEAD)
        shown = Parsed(text).shown
        article = re.sub(r"data:image/png;base64,[^\"]*", "", text[text.index("<article") :])
        assert not [said for said in ("speaks for", "against it", 'class="against', "+0") if said in article]
        assert ("Where it looks: strongest at" if each.kind == "image" else "Legend: where it looks") in shown
    nowhere = made.explanations(replace(made.image(), values=np.zeros((224, 224))))
    nowhere.signed = False
    assert "Where it looks: no place stands out" in Parsed(page(nowhere, HEAD)).shown


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        ("probability", "effect on the probability"),
        ("log-odds", "effect on the log-odds"),
        ("the number's own unit", "effect in the number's own unit"),
        ("standard deviations of the training's targets", "effect in standard deviations of the training's targets"),
    ],
)
def test_the_unit_of_the_effects_is_told(unit: str, said: str) -> None:
    for each, places in ((made.text(), 3), (made.row(), 2), (made.image(), 1)):
        explanations = made.explanations(replace(each, neighbours=()))
        assert "effect on" not in page(explanations, HEAD)
        explanations.unit = unit
        text = page(explanations, HEAD)
        assert Parsed(text).shown.count(said) >= places
        if each.kind != "image":
            assert f'class="number">{escape(said)}</th>' in text
        if each.kind == "text":
            assert re.search(rf"The deepest shade is 0.3\d+, {said}; words", Parsed(text).shown)


def test_of_one_part_alone_there_are_no_curves() -> None:
    one = replace(made.text(), names=("superb",), values=np.array([0.3]), error=None)
    alone = Explanations(
        [one],
        "LIME",
        Checks(None, completeness=0),
        {},
        ["a text of one word stands in no order, so it was not checked"],
    )
    shown = Parsed(page(alone, HEAD)).shown
    assert "Whether they beat chance was not measured" in shown
    assert "Most important parts first" not in shown
    assert "Insertion minus deletion" not in shown
    assert alone.notes[0] in shown


def test_what_is_no_number_is_never_shown() -> None:
    values = made.row().values.copy()
    values[1] = np.nan
    row = replace(made.row(), values=values, error=np.full(len(values), np.nan), answer=np.nan)
    heat = made.heat()
    heat[:5] = np.nan
    word = replace(made.text(), values=np.append(np.nan, made.text().values[1:]))
    for each, head in ((row, PRICES), (replace(made.image(), values=heat, answer=np.nan), HEAD), (word, HEAD)):
        explanations = made.explanations(each)
        explanations.checks = Checks(None, cascade=[("some", np.nan), ("all", 0.5)])
        text = re.sub(r"data:image/png;base64,[^\"]*", "", page(explanations, head)).lower()
        assert not re.findall(r"[^a-z]nan[^a-z]|[^a-z]inf[^a-z]", text)
        assert ">all</th>" in text
        assert ">some</th>" not in text
    assert "GrLivArea" not in re.findall(r'role="rowheader">([^<]*)<', page(made.explanations(row), PRICES))


def test_curves_of_no_number_are_not_drawn() -> None:
    explanations = made.explanations(made.text())
    assert explanations.checks.faithful
    measured = replace(explanations.checks.faithful, insertion=[0.1, np.nan])
    explanations.checks = replace(explanations.checks, faithful=measured)
    assert "Most important parts first" not in Parsed(page(explanations, HEAD)).shown


def test_what_few_inputs_and_few_parts_cannot_tell_is_said() -> None:
    explanations = made.explanations(made.text())
    assert explanations.checks.faithful
    few = replace(explanations.checks.faithful, examples=4, beyond_random=None)
    explanations.checks = replace(explanations.checks, faithful=few, by_chance=0.27)
    shown = Parsed(page(explanations, HEAD)).shown
    assert "cannot be told from so few inputs" in shown
    assert "1 is the same, 0.27 is nothing in common" in shown


def test_the_page_ends_after_a_hundred_explanations() -> None:
    many = [replace(made.text(), id=f"review {k}", neighbours=()) for k in range(130)]
    text = page(made.explanations(*many), HEAD)
    assert text.count("<article") == 100
    assert "review 99" in text
    assert "review 100" not in text
    assert "These are the first of 130; 30 more are in the file of the numbers." in text
    assert "more are in the file" not in page(made.explanations(*many[:100]), HEAD)


def test_cells_are_as_a_person_reads_them() -> None:
    said = {"0.3771906632801799": "0.3772", "-12.34567": "-12.35", "1494.0": "1494", "2090": "2090", "12.50": "12.50"}
    said |= {"287400.4": "287400", "1.2.3": "1.2.3", "NridgHt": "NridgHt", "": "", "1956": "1956", "nan": "nan"}
    assert {text: cell(text) for text in said} == said
    text = page(made.explanations(replace(made.row(), cells=("0.3771906632801799", *made.row().cells[1:]))), PRICES)
    assert 'title="0.3771906632801799">0.3772</td>' in text


def test_what_was_not_explained_is_listed() -> None:
    explanations = made.explanations(made.image())
    explanations.errors["broken.jpg"] = "not an image"
    assert "Not explained broken.jpg not an image" in Parsed(page(explanations, HEAD)).shown


def test_numbers_are_as_a_person_reads_them() -> None:
    shares = [percent(share) for share in (0, 0.0004, 0.5, 0.99951, 1)]
    assert shares == ["0.0 %", "< 0.1 %", "50.0 %", "> 99.9 %", "100.0 %"]
    assert [number(value) for value in (0.0, 0.12345, 12.0, 287_400.4)] == ["0", "0.123", "12", "287,400"]
    assert [signed(value) for value in (0.5, -1200.0, 0.0)] == ["+0.5", "\N{MINUS SIGN}1,200", "0"]


def test_head_is_read_off_the_record(tmp_path: Path) -> None:
    spec: dict[str, Any] = {"classes": ["film", "plot"], "target": {"kind": "multi_label", "name": "tags"}}
    (tmp_path / "run.json").write_text(json.dumps(record_of(data={"stand_in": True}) | {"spec": spec}))
    head = Head.of_run(tmp_path, command="explain.py x", asked="film")
    assert (head.experiment, head.predicts, head.stand_in, head.asked) == ("Cats", "multi_label", True, "film")
    assert head.scores == {"val/loss": 0.5, "val/acc": 0.9}
    assert (head.data, head.weights, head.command) == ("folder cats", "imagenet", "explain.py x")
    command = (
        f"python {tmp_path / 'scripts' / 'explain.py'} {tmp_path} {tmp_path / 'a.png'} --out={tmp_path / 'why.html'}"
    )
    place = "/".join(tmp_path.parts[-3:])
    assert (head.run, Head.of_run(tmp_path, command=command).command) == (
        Path(place),
        f"python scripts/explain.py {place} a.png --out=why.html",
    ), "the folders of this machine are nobody's business"
    with pytest.raises(InputError, match=r"no run \(it has no run.json\)"):
        Head.of_run(tmp_path / "elsewhere")


def test_small_and_great_numbers_are_not_rounded_away() -> None:
    head = replace(HEAD, scores={"val/auroc": 0.9999})
    explanations = made.explanations(replace(made.text(), id=" "), replace(made.text(), id="second"))
    assert explanations.checks.faithful
    tiny = replace(explanations.checks.faithful, gain=4.4e-5, interval=(1.2e-5, 7.6e-5), random=-3e-7)
    explanations.checks = replace(explanations.checks, faithful=tiny)
    shown = Parsed(page(explanations, head)).shown
    assert "val/auroc 0.9999" in shown
    assert "minus deletion 0.000044 (95 % 0.000012 to 0.000076) on 60 examples, random order 0.000000: beats" in shown
    assert "input 1" in shown, "a name for what has an empty one"
    again = replace(tiny, gain=-0.001, interval=(-0.31, 0.2), random=-0.004)
    line = replace(explanations.checks, faithful=again).lines()["faithful"]
    assert "deletion 0.00 (95 % -0.31 to 0.20) on 60 examples, random order 0.00:" in line
    assert (number(0.9999), number(0.5), number(1.0)) == ("0.9999", "0.5", "1")


def test_write_replaces_the_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "why.html"
    write(*ALL["text"], path)
    write(*ALL["table"], path)
    assert "OverallQual" in path.read_text("utf-8")
    assert [file.name for file in path.parent.iterdir()] == ["why.html"]


# ------------------------------------------------------------------------------------------------------------ browser
ERRORS = """
window.said = [];
addEventListener('error', event => said.push(event.message));
addEventListener('securitypolicyviolation', event => said.push(event.violatedDirective));
for (const name of ['error', 'warn']) console[name] = (...words) => said.push(words.join(' '));
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    chromium_or_skip()
    with Chromium(tmp_path_factory.mktemp("profile")) as found:
        found.call("Page.enable")
        found.call("Page.addScriptToEvaluateOnNewDocument", source=ERRORS)
        yield found


def open_page(browser: Chromium, name: str, folder: Path, width: int, theme: str = "light") -> None:
    write(*ALL[name], folder / "why.html", [("Importance", figure())] if name == "table" else ())
    theme_feature = {"name": "prefers-color-scheme", "value": theme}
    browser.call("Emulation.setEmulatedMedia", media="", features=[theme_feature])
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=2500, deviceScaleFactor=1, mobile=False)
    browser.open((folder / "why.html").as_uri())
    browser.wait_until("document.querySelectorAll('article').length > 0")


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 400])
@pytest.mark.parametrize("name", ALL)
def test_chromium_shows_the_page(browser: Chromium, tmp_path: Path, name: str, width: int) -> None:
    open_page(browser, name, tmp_path, width)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width, "scrolls sideways"
    wide = (
        "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1).length"
    )
    assert browser.evaluate(wide) == 0
    assert browser.evaluate("said") == []
    assert (
        browser.evaluate("performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length")
        == 0
    )
    assert (
        browser.evaluate("[...document.images].filter(image => !image.naturalWidth && image.loading != 'lazy').length")
        == 0
    )
    first = browser.evaluate("document.body.innerText.trim().split('\\n')[0]")
    assert first == ("Do not trust these explanations" if name == "bad" else "Why Cats answers as it does")
    print(browser.screenshot(tmp_path / f"{name}-{width}.png"))


@pytest.mark.slow
def test_slider_changes_the_opacity_of_its_own_map_by_the_keyboard(browser: Chromium, tmp_path: Path) -> None:
    open_page(browser, "image", tmp_path, 1200)
    opacities = "[...document.querySelectorAll('.map')].map(map => +getComputedStyle(map).opacity)"
    assert browser.evaluate(opacities) == [0.5, 0.5]
    browser.evaluate("document.querySelector('input[type=range]').focus()")
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key="End", code="End", windowsVirtualKeyCode=35)
    assert browser.evaluate(opacities) == [1, 0.5]
    assert browser.evaluate("document.querySelector('output').textContent") == "100 %"
    assert browser.evaluate("said") == []


@pytest.mark.slow
def test_print_has_no_slider_and_leaves_nothing_folded(browser: Chromium, tmp_path: Path) -> None:
    open_page(browser, "image", tmp_path, 800)
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.evaluate("getComputedStyle(document.querySelector('.slider')).display") == "none"
    open_page(browser, "table", tmp_path, 800)
    folded = "document.querySelector('details table').getBoundingClientRect().height"
    browser.call("Emulation.setEmulatedMedia", media="print")
    browser.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert browser.evaluate(folded) > 50


@pytest.mark.slow
def test_marked_words_can_be_read_in_both_themes(browser: Chromium, tmp_path: Path) -> None:
    """Contrast of at least 4.5 to 1 (WCAG 2.2, 1.4.3)."""
    contrast = """[...document.querySelectorAll('mark')].map(mark => {
      const canvas = new OffscreenCanvas(1, 1).getContext('2d');
      const light = colours => { canvas.clearRect(0, 0, 1, 1);
        for (const each of colours) { canvas.fillStyle = each; canvas.fillRect(0, 0, 1, 1); }
        return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map(part => part / 255)
          .map(part => part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4)
          .reduce((sum, part, place) => sum + part * [.2126, .7152, .0722][place], 0) + .05; };
      const paper = getComputedStyle(mark.closest('article')).backgroundColor, style = getComputedStyle(mark);
      const [one, two] = [light([style.color]), light([paper, style.backgroundColor])];
      return Math.max(one, two) / Math.min(one, two); })"""
    for theme in ("light", "dark"):
        open_page(browser, "text", tmp_path, 1200, theme)
        assert min(browser.evaluate(contrast)) >= 4.5
