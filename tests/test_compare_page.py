"""The page of compare.py: whole, escaped, self-contained; its curves; and, slow, as Chromium shows it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Chromium, chromium_or_skip
from made_runs import make_run, make_seeds, record_of, write_labels
from parsed import Parsed

from src.runs.compare import command, curves
from src.runs.compare.caution import cautions
from src.runs.compare.groups import compare
from src.runs.compare.page import page, pairs, per_class
from src.runs.compare.runs import Run

EVIL = "<script>alert('x')</script>"


def classes_of(*names: str) -> dict[str, Any]:
    figures = {"precision": 0.5, "recall": 0.25, "f1": 0.75, "support": 7.0}
    return {"val": {"classes": dict.fromkeys(names, figures)}}


@pytest.fixture
def variants(tmp_path: Path) -> list[Run]:
    """Two variants of three and two seeds with classes a and b, the first right on all, the second on half."""
    per_class = classes_of("a", "b")
    found = make_seeds(tmp_path / "first", [0.8, 0.9, 1.0], per_class=per_class)
    found += make_seeds(tmp_path / "second", [0.5, 0.4], fields={"batch_size": 16}, per_class=per_class)
    for run in found:
        write_labels(run.path, "aabb" * 5, ("aabb" if run.best["value"] > 0.6 else "abab") * 5)
    return found


def page_of(found: list[Run]) -> str:
    blocks = compare(found)
    return page(blocks, cautions(blocks), ["x/run.json: damaged record (y)."])


def test_page_has_groups_runs_curves_classes_and_bootstrap(variants: list[Run]) -> None:
    text = page_of(variants)
    found = Parsed(text)
    assert found.open == []
    for cell in ("Cats", "3 done", "0.9000 ± 0.1000[0.3629, 0.9930]", "Cats, batch_size 32, seed 2", "val/acc", "0.25"):
        assert any(cell in shown for shown in found.cells), cell
    of_class_a = found.cells[found.cells.index("a") + 1 :][:4]
    assert of_class_a == ["0.500 ± 0.000", "0.250 ± 0.000", "0.750 ± 0.000", "7"]
    assert all(str(run.path) in found.cells for run in variants)
    assert found.tags.count("svg") == 3
    assert re.findall(r"<figcaption>(.*?)</figcaption>", text) == ["train/loss", "val/loss", "val/acc"]
    assert "Skipped: x/run.json: damaged record (y)." in text


def test_page_needs_nothing_else(variants: list[Run]) -> None:
    found = Parsed(page_of(variants))
    assert not {"script", "link", "img", "iframe", "object"} & set(found.tags)
    loads = [value for name, value in found.attributes if name in ("src", "href", "xlink:href", "srcset")]
    assert all(value.startswith("#") for value in loads), loads
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert "@import" not in page_of(variants)
    assert not re.findall(r"url\((?!#)", page_of(variants))


def test_ids_of_the_pictures_are_unlike(variants: list[Run], tmp_path: Path) -> None:
    """Two curves with one clip path's id would be cut by the first image's frame."""
    found = [*variants, *make_seeds(tmp_path / "other", [0.1], data={"fingerprint": "beef"})]
    clips = re.findall(r'<clipPath id="(\w+)"', page_of(found))
    assert len(clips) == 6
    assert len(set(clips)) == 6


@pytest.mark.parametrize(
    "changes",
    [
        {"per_class": classes_of(EVIL)},
        {"experiment": f"experiments.{EVIL}"},
        {"data": {"source": EVIL}},
        {"data": {"split": EVIL}},
        {"fields": {"note": EVIL}},
        {"fields": {EVIL: 1}},
        {"weights": {"source": EVIL}},
        {"state": "failed", "reason": EVIL},
        {"monitor": f"val/{EVIL}"},
        {"git": {"commit": EVIL, "dirty": True}},
    ],
    ids=str,
)
def test_what_users_named_is_escaped(tmp_path: Path, changes: dict[str, Any]) -> None:
    found = make_seeds(tmp_path / "plain", [0.9]) + make_seeds(tmp_path / "evil", [0.8], **changes)
    monitored = found[1].best["name"]
    with open(found[1].path / "metrics.csv", "a", encoding="utf-8") as file:
        file.write(f"0.0,1,10,{monitored},0.5\n")
    text = page_of(found)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "script" not in Parsed(text).tags


def test_stand_in_data_are_loud(tmp_path: Path, variants: list[Run]) -> None:
    assert 'class="loud"' not in page_of(variants)
    drawn = make_seeds(tmp_path / "drawn", [0.9], data={"stand_in": True, "source": "drawn", "fingerprint": "d"})
    assert page_of([*variants, *drawn]).count('class="loud"') == 2


def test_pairs_are_of_the_best_runs(variants: list[Run]) -> None:
    [(one, two, found)] = pairs(compare(variants)[0])
    assert (one, two) == ("Cats, batch_size 32, seed 2", "Cats, batch_size 16, seed 0")
    assert not isinstance(found, str)
    assert (found.examples, found.difference) == (20, 0.5)


def test_pairs_without_predictions_say_so(variants: list[Run]) -> None:
    for run in variants:
        (run.path / "predictions_val.csv").unlink()
    [(_, _, found)] = pairs(compare(variants)[0])
    assert "no split of which both have saved predictions" in str(found)
    assert str(found) in Parsed(page_of(variants)).cells


def test_pairs_are_limited(tmp_path: Path) -> None:
    found = [make_run(tmp_path / str(i), record_of(fields={"batch_size": i})) for i in range(8)]
    assert len(pairs(compare(found)[0])) == 10


def test_per_class_is_the_mean_over_seeds(tmp_path: Path) -> None:
    found = []
    for seed, recall in enumerate((0.2, 0.4)):
        figures = {"recall": recall, "support": 7.0}
        record = record_of(seed, per_class={"test": {"classes": {"cat": figures}}})
        found.append(make_run(tmp_path / str(seed), record))
    assert per_class(compare(found)[0].groups[0]) == {"test": {"cat": {"recall": "0.300 ± 0.141", "support": "7"}}}


def test_a_page_without_a_finished_run(tmp_path: Path) -> None:
    record = {
        k: v for k, v in record_of(state="failed").items() if k not in ("data", "best", "metrics", "git", "wall_s")
    }
    text = page_of([make_run(tmp_path / "x", record)])
    assert "Runs that ended before their data were read" in text
    assert Parsed(text).open == []


# ------------------------------------------------------------------------------------------------------------- curves
def test_curves_of_several_validations_an_epoch(tmp_path: Path) -> None:
    rows = ["0,0,0,val/loss,9", "0,1,5,val/loss,8", "0,1,9,val/loss,7", "0,2,15,val/loss,6", "0,2,19,val/loss,5"]
    (tmp_path / "metrics.csv").write_text("time,epoch,step,name,value\n" + "\n".join(rows) + "\n0,3,2")
    x, y = curves.read(tmp_path)["val/loss"]
    assert x.tolist() == [0, 0.5, 1, 1.5, 2]
    assert y.tolist() == [9, 8, 7, 6, 5]


def test_mean_ends_where_the_first_curve_ends() -> None:
    x, y = curves.mean([(np.array([1, 2, 3]), np.array([1.0, 2, 3])), (np.array([1, 2]), np.array([3.0, 6]))])
    assert (x.tolist(), y.tolist()) == ([1, 2], [2, 4])


def test_a_thin_line_for_each_run_and_a_thick_one_for_the_mean() -> None:
    curve = (np.array([1.0, 2.0]), np.array([1.0, 2.0]))
    drawn = curves.draw(
        [[curve, curve, curve], [curve], []], ["#aa0000", "#00aa00", "#0000aa"], label="a$b$", unique="x"
    )
    assert (drawn.count("stroke: #aa0000; stroke-opacity: 0.45"), drawn.count("stroke: #00aa00; stroke-width: 2")) == (
        3,
        1,
    )
    assert "#0000aa" not in drawn
    assert "currentColor" in drawn
    assert ">a$b$<" in drawn
    assert curves.INK not in drawn


def test_colours_can_be_told_apart() -> None:
    assert len(set(curves.COLOURS)) == len(curves.COLOURS) == 8


# ------------------------------------------------------------------------------------------------------------ browser
@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 600])
def test_chromium_shows_the_page(tmp_path: Path, variants: list[Run], width: int) -> None:
    chromium_or_skip()
    out = tmp_path / "report.html"
    folders = [variants[0].path.parent, variants[3].path.parent]
    command.write(folders, csv=None, json=None, html=out)
    with Chromium(tmp_path / "profile", width=width) as browser:
        browser.open(out.as_uri())
        rows = browser.evaluate(
            "[...document.querySelector('table').querySelectorAll('tbody tr')].map(r => r.innerText)"
        )
        assert [row.split()[:2] for row in rows] == [["Cats", "32"], ["Cats", "16"]]
        assert "0.9000 ± 0.1000" in rows[0]
        drawn = browser.evaluate(
            "[...document.querySelectorAll('figure svg')].map(s => s.getBoundingClientRect().width)"
        )
        assert len(drawn) == 3
        assert all(250 < one <= width for one in drawn)
        assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), "scrolls sideways"
        print(browser.screenshot(tmp_path / f"report-{width}.png"))
