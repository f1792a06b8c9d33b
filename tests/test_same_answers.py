"""One input, one answer: of the server, of predict.py with an export and with its run, and of leyden with both."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from conftest import WORDS, Exports, Script
from PIL import Image, ImageDraw
from servers import form, serving

import leyden
from experiments.digits import DigitsCNN
from experiments.tables import TableRegression
from experiments.texts import TextsMultiLabel
from src.experiment import Experiment

COUNT = 200
FORMATS = (("L", "png"), ("RGB", "png"), ("RGB", "jpeg"), ("L", "jpeg"), ("RGBA", "png"), ("P", "gif"), ("RGB", "webp"))
TURNED = 0x0112  # EXIF's orientation


class Inputs(NamedTuple):
    """The same inputs, for each way to ask."""

    table: Path
    """A CSV file, or a folder of images."""
    body: bytes
    """For the server."""
    content_type: str


def drawn_images(folder: Path, rng: np.random.Generator) -> Inputs:
    """Images of many formats, sizes and orientations; each tenth is cut off."""
    folder.mkdir()
    files = []
    for number in range(COUNT):
        mode, kind = FORMATS[number % len(FORMATS)]
        width, height = (int(side) for side in rng.integers(9, 60, 2))
        image = Image.new("L", (width, height), int(rng.integers(256)))
        corners = rng.integers(0, 40, (3, 2))
        ImageDraw.Draw(image).line([(int(x), int(y)) for x, y in corners], fill=int(rng.integers(256)), width=3)
        file, exif = io.BytesIO(), Image.Exif()
        exif[TURNED] = int(rng.integers(1, 9))
        image.convert(mode).save(file, kind, **({"exif": exif} if kind != "gif" else {}))
        contents = file.getvalue()[: 60 if number % 10 == 7 else None]
        (folder / f"{number:03}.{kind}").write_bytes(contents)
        files.append(contents)
    return Inputs(folder, *form(*files))


def written_texts(path: Path, rng: np.random.Generator) -> Inputs:
    """Texts of 1 to 60 words, some of them unknown, in several scripts, over several lines."""
    odd = ("été", "日本語", "film\nplot", 'a "quote"', "x, y", "🎬", "  ", "\u202f1\u00a0000", "NaN", "FILM", "-")
    words = [*WORDS["good"], *WORDS["bad"], "the", "film", "plot", "was", *odd]
    texts = ["film", *(" ".join(rng.choice(words, rng.integers(2, 60))) for _ in range(COUNT - 1))]
    return as_table(path, [{"text": text} for text in texts])


def written_rows(path: Path, rng: np.random.Generator) -> Inputs:
    """Rows as people write them: missing, unseen, far too large, and what is no number or no date at all."""
    cells: dict[str, tuple[str, ...]] = {
        "area": ("80.5", "31", "1e2", "", " 77 ", "-5", "1e30", "n/a", "many"),
        "rooms": ("1", "2", "6", "400", "3.0", "", "inf"),
        "town": ("Leyden", "Ghent", "leyden ", "Delft", "", "Zürich"),
        "sold": ("2004-05-15", "1999-01-01", "2031-12-31T10:00", "", "15/05/2004", "soon"),
        "heating": ("gas", "oil", "Gas", "", "wood, or none"),
        "size": ("small", "large", ""),
    }
    rows = []
    for _ in range(COUNT):
        usual = rng.random() < 0.7  # each cell of most rows is one of the first two
        rows.append({name: str(rng.choice(found[:2] if usual else found)) for name, found in cells.items()})
    return as_table(path, rows)


def as_table(path: Path, rows: list[dict[str, str]]) -> Inputs:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0]])
        writer.writeheader()
        writer.writerows(rows)
    return Inputs(path, json.dumps(rows).encode(), "application/json")


def as_frame(answers: list[dict[str, Any]], classes: dict[str, str]) -> pd.DataFrame:
    """Return what the server said as predict.py's table has it."""
    rows = []
    for answer in answers:
        probabilities = answer.pop("probabilities", {})
        labels = {"labels": ";".join(answer.pop("labels"))} if "labels" in answer else {}
        rows.append(answer | labels | {classes[name]: share for name, share in probabilities.items()})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("kind", "make", "errors"),
    [(DigitsCNN, drawn_images, 20), (TextsMultiLabel, written_texts, 0), (TableRegression, written_rows, None)],
    ids=["images", "texts", "rows"],
)
def test_two_hundred_inputs_have_one_answer_each(
    kind: type[Experiment],
    make: Callable[[Path, np.random.Generator], Inputs],
    errors: int | None,
    exports: Exports,
    script: Script,
    tmp_path: Path,
) -> None:
    export = exports(kind, "32-true")  # a run in bfloat16 has other digits than its export
    given = make(tmp_path / "inputs.csv", np.random.default_rng(0))
    answers: dict[str, pd.DataFrame] = {}
    for name, path in {"export": export, "run": export.parents[1]}.items():
        done = script("predict.py", path, given.table)
        assert done.returncode in (0, 1), done.stderr  # 1 where an input has an error
        words = dict.fromkeys(("label", "labels", "error"), str)
        answers[f"predict.py {name}"] = pd.read_csv(io.StringIO(done.stdout), dtype=words)
        answers[f"leyden {name}"] = leyden.load(path).predict([given.table])
    wanted = answers["predict.py run"]
    with serving(export, tmp_path / "server") as served:
        said = served.predict(given.body, given.content_type).json
    classes = {name.removeprefix("prob_"): str(name) for name in wanted.columns}
    answers["server"] = as_frame(said, classes)

    wrong = wanted["error"].notna()
    assert len(wanted) == COUNT
    assert wrong.sum() == errors if errors is not None else 10 < wrong.sum() < COUNT / 2
    numbers = [name for name in wanted.columns if name.startswith("prob_") or name == "prediction"]
    assert numbers
    assert wanted.loc[~wrong, numbers[0]].nunique() > 50, "answers that differ"
    for way, found in answers.items():
        assert len(found) == COUNT, way
        blank = found["error"].fillna("") == "" if "error" in found else pd.Series([True] * COUNT)
        assert (blank == ~wrong).all(), way
        for name in ("label", "labels"):
            if name in wanted:
                assert (found[name].fillna("")[blank] == wanted[name].fillna("")[blank]).all(), (way, name)
        for name in numbers:
            assert found[name][blank].to_numpy(float) == pytest.approx(
                wanted[name][blank].to_numpy(float), rel=1e-5, abs=1e-5 if name != "prediction" else 0
            ), (way, name)
