"""Shared fixtures: the checkout's own caches, runs and data are neither read nor written, and there is no network."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="leyden-no-hub-")  # read once, at the hub library's import
for name in ("HTTPS_PROXY", "HTTP_PROXY"):
    os.environ[name] = "http://127.0.0.1:9"  # a closed port: whoever asks for the network is told no at once

import hypothesis
import numpy as np
import warm
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.utils.tensorboard import SummaryWriter
from transformers import BertConfig, BertModel
from xdist.scheduler import LoadFileScheduling

from src.datamodules.synthetic.images import draw_folder
from src.experiment import Experiment
from src.training.trainer import quieten

hypothesis.settings.register_profile("the same examples each time", derandomize=True)
hypothesis.settings.load_profile("the same examples each time")

ROOT = Path(__file__).resolve().parents[1]
TINY = ("--image-size", "32", "--max-epochs", "1", "--limit-train-batches", "2", "--batch-size", "4")
"""Flags that make any image experiment run in seconds."""


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder {train,val,test}/{cat,dog} of 24, 8 and 8 synthetic images; not to be changed."""
    folder = tmp_path_factory.mktemp("data") / "images"
    draw_folder(folder, train=24, val=8, test=8)
    return folder


@pytest.fixture(scope="session")
def photos(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of the 40 synthetic images: `path,label,labels,age`, and `cat` and `furry` with 0s and 1s; not to be
    changed."""
    rng = np.random.default_rng(0)
    folder = shutil.copytree(images, tmp_path_factory.mktemp("photos") / "images")
    path = folder / "photos.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "labels", "age", "cat", "furry"])
        for image in sorted(folder.rglob("*.jpg")):
            kind, furry = image.parent.name, int(rng.integers(2))
            labels = ";".join([*(["cat"] if kind == "cat" else []), *(["furry"] if furry else [])])
            age = f"{rng.uniform(0, 20):.2f}"
            writer.writerow([image.relative_to(folder), kind, labels, age, int(kind == "cat"), furry])
    return path


WORDS = {"good": ("fine", "lovely", "superb", "great"), "bad": ("dull", "awful", "poor", "weak")}


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table `text,label,tags,stars` of 80 short texts, good or bad, with 0 to 2 tags; not to be changed."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("texts") / "texts.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "tags", "stars"])
        for number in range(80):
            label = ("good", "bad")[number % 2]
            words = [
                *rng.choice(("the", "film", "was", "a", "plot", "and"), rng.integers(2, 20)),
                rng.choice(WORDS[label]),
            ]
            tags = ";".join(tag for tag in ("film", "plot") if tag in words)
            stars = (4 if label == "good" else 2) + len(words) / 20
            writer.writerow([f"{' '.join(rng.permutation(words))} {number}", label, tags, f"{stars:.2f}"])
    return path


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random BERT and its tokenizer, as transformers saves them; not to be changed."""
    folder = tmp_path_factory.mktemp("encoder") / "tiny"
    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "film", "was", "a", *WORDS["good"], *WORDS["bad"]]
    vocabulary = {word: number for number, word in enumerate(known)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    config = BertConfig(
        vocab_size=len(known), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def houses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 120 houses with numbers, categories, a date, missing values and a price; not to be changed."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("tables") / "houses.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "area", "rooms", "town", "sold", "heating", "price", "size"])
        for number in range(120):
            area, rooms, town = rng.uniform(30, 200), int(rng.integers(1, 7)), int(rng.integers(0, 3))
            price = 1000 * area + 5000 * rooms + 40_000 * town + rng.normal(0, 3000)
            writer.writerow(
                [
                    f"h{number}",
                    "" if number % 11 == 5 else f"{area:.1f}",
                    rooms,
                    ("Ghent", "Leyden", "Utrecht")[town],
                    f"{2000 + number % 20}-{1 + number % 12:02}-15",
                    "" if number % 7 == 3 else rng.choice(["gas", "oil"]),
                    f"{price:.0f}",
                    "large" if area > 110 else "small",
                ]
            )
    return path


@pytest.fixture(scope="session")
def tagged(houses: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same houses with any of three extras each, in one column, in place of price and size; not to be changed."""
    path = tmp_path_factory.mktemp("tables") / "tagged.csv"
    with open(houses, encoding="utf-8", newline="") as source, open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["id", "area", "rooms", "town", "extras"], extrasaction="ignore")
        writer.writeheader()
        for row in csv.DictReader(source):
            extras = {
                "garden": float(row["area"] or 0) > 100,
                "lift": int(row["rooms"]) > 4,
                "quay": row["town"][0] == "L",
            }
            writer.writerow(row | {"extras": ";".join(name for name, there in extras.items() if there)})
    return path


ADD_FIGURE = SummaryWriter.add_figure
"""The true one."""


@pytest.fixture(scope="session", autouse=True)
def figures_of_one_pixel() -> Iterator[None]:
    """Figures are made but not rendered, a quarter of a short run; commands and `test_cells` render them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SummaryWriter, "add_figure", lambda self, tag, _: self.add_image(tag, np.zeros((1, 1, 1))))
        yield


SEES_THE_CHECKOUT = {"architecture", "cli", "own_parts", "readme"}
"""Test files that read experiments/, into which test_readme.py writes: one process runs them, one after the other."""
SERVED = {"server", "inference_protocol", "same_answers", "server_page", "serving"}
"""Test files that share exports: one process runs them."""


class Whole(LoadFileScheduling):
    """Gives each test file to one of pytest-xdist's processes as a whole, for its fixtures' sake; some files together.

    The marks of `--dist loadgroup` have no effect with pytest 9.2: xdist 3.8 writes them to `Item._nodeid`.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        stem = Path(file).stem.removeprefix("test_")
        return "checkout" if stem in SEES_THE_CHECKOUT else "served" if stem in SERVED else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Whole:
    return Whole(config, log)


Tiny = Callable[[type[Experiment]], dict[str, Any]]


@pytest.fixture(scope="session")
def tiny(images: Path, photos: Path, texts: Path, encoder: Path, houses: Path, tagged: Path) -> Tiny:
    """Return the fields that make an experiment small: its kind of data, and nothing to be downloaded."""
    wanted: dict[str, Any] = {
        "weights": "none",
        "batch_size": 4,
        "image_size": 32,
        "backbone": "test_resnet",
        "offline_backbone": "test_resnet",
        "encoder": str(encoder),
        "offline_encoder": str(encoder),
    }

    def table_of(kind: Any) -> dict[str, Any]:
        if kind.__name__.startswith("LinearRegression"):
            return {"data_dir": None, "source": "drawn", "batch_size": 2}
        if kind.predicts == "multi_label":
            return {"data_dir": tagged, "target": ("extras",)}
        return {"data_dir": houses, "target": "price" if kind.predicts == "regression" else "size"}

    def fields_of(kind: type[Experiment]) -> dict[str, Any]:
        default = {field.name: field.default for field in dataclasses.fields(kind)}
        data = {"dataset": None, "image_size": images, "text_column": texts, "columns": houses}
        place = next((place for name, place in data.items() if name in default), None)  # data of an experiment's own
        found: dict[str, Any] = {"data_dir": place} if place else {}
        if "dataset" in default:
            found |= {"source": "sklearn"}
        elif "columns" in default:
            found |= table_of(kind)
        elif "text_column" in default and "target" in default:
            found |= {"target": "tags" if getattr(kind, "predicts", "") == "multi_label" else "stars"}
        elif "path_column" in default:
            found |= {"data_dir": photos} | ({"target": "age"} if kind.predicts == "regression" else {})  # pyright: ignore[reportAttributeAccessIssue]
        found |= {"labelled": 8} if default.get("labelled") else {}
        return {name: value for name, value in wanted.items() if name in default} | found

    return fields_of


Exports = Callable[..., Path]


@pytest.fixture(scope="session")
def exports(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """Return the export of an experiment that was trained for two steps, `exports(kind)`; not to be changed."""
    from src.deploy.export import export
    from src.training import runner

    made: dict[Any, Path] = {}

    def of(kind: type[Experiment], precision: str = "auto") -> Path:
        if (kind, precision) not in made:
            fields: dict[str, Any] = tiny(kind) | {"precision": precision}
            with own_home(tmp_path_factory.mktemp("exports")):
                made[kind, precision] = export(runner.run(kind(max_epochs=1, limit_train_batches=2, **fields)))
        return made[kind, precision]

    return of


@contextlib.contextmanager
def own_home(folder: Path) -> Iterator[None]:
    """Runs and caches go to `folder`, for fixtures that live longer than a test; quiet, as in `run_all`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEYDEN_RUNS", str(folder / "runs"))
        patch.setenv("LEYDEN_CACHE", str(folder / "cache"))
        quieten()
        yield


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs and caches go to the test's own folder."""
    monkeypatch.setenv("LEYDEN_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("LEYDEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def quiet() -> None:
    """As in `run_all`, for tests that call what it calls; not for all, since a warning is an error elsewhere."""
    quieten()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mount a disk of so many bytes, and of so many files."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size: int, files: int = 10_000) -> Path:
        options = f"size={size},nr_inodes={files}"
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "leyden", folder], capture_output=True)
        if done.returncode:
            pytest.skip(f"may not mount a small disk here: {done.stderr.decode().strip()}")
        return folder

    yield mount
    subprocess.run(["umount", folder], capture_output=True, check=False)


Script = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def script() -> Script:
    """Run a command as a user would, in a process of its own: script('run.py', 'experiments/images.py').

    It has torch at once (`warm.py`); with `fresh=True` it is an interpreter of its own, which has to import it.
    """

    def call(name: str, *args: str | Path, fresh: bool = False, **environment: str) -> subprocess.CompletedProcess[str]:
        words = [ROOT / "scripts" / name, *args]
        if not fresh:
            return warm.run(words, **environment)
        return subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=ROOT,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return call
