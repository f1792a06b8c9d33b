"""Cats and dogs: which source serves, what a forced one says where it cannot, and the pets' official split."""

from __future__ import annotations

import shutil
import urllib.error
from pathlib import Path
from typing import Any

import pytest
from torchvision.datasets import OxfordIIITPet

from src.datamodules import CatsDogs
from src.datamodules.synthetic.images import draw_folder
from src.experiment import InputError
from src.resources.cache import cache_dir

PETS = {"trainval": {"Abyssinian": 20, "beagle": 40}, "test": {"Abyssinian": 4, "beagle": 6}}
"""Split -> breed -> images. Breeds with a capital are cats, as in the original."""


@pytest.fixture(autouse=True)
def no_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")


@pytest.fixture
def few_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw 40 images in place of 1600."""
    monkeypatch.setattr(
        "src.datamodules.images.image_folder.images.draw_folder",
        lambda root: draw_folder(root, train=24, val=8, test=8),
    )


def lay_out(folder: Path, image: Path) -> None:
    """Write `folder` as Oxford-IIIT Pet has it."""
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for split, breeds in PETS.items():
        lines = []
        for label, (breed, count) in enumerate(breeds.items(), 1):
            for i in range(count):
                name = f"{breed}_{i if split == 'trainval' else 100 + i}"
                shutil.copy(image, folder / "images" / f"{name}.jpg")
                with open(folder / "images" / f"{name}.jpg", "ab") as file:
                    file.write(name.encode())  # behind the image's end: bytes of its own, no duplicate
                lines.append(f"{name} {label} {1 if breed[0].isupper() else 2} 1")
        (folder / "annotations" / f"{split}.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def image(images: Path) -> Path:
    return images / "val/cat/0000.jpg"


def ready(**arguments: Any) -> CatsDogs:
    data = CatsDogs(image_size=28, **arguments)
    data.setup("fit")
    return data


def test_sources_serve_in_their_order(few_drawn: None, images: Path, image: Path, tmp_path: Path) -> None:
    assert list(CatsDogs().sources()) == ["folder", "oxford-pet", "drawn"]
    data = ready()
    assert data.loaded.source == "drawn cats and dogs (NOT photographs)"
    assert data.loaded.fallback
    lay_out(cache_dir() / "oxford-iiit-pet", image)
    data = ready()
    assert data.loaded.source == "Oxford-IIIT Pet"
    assert not data.loaded.fallback
    shutil.copytree(images, tmp_path / "home" / "data" / "cats_dogs")
    data = ready()
    assert data.loaded.source == "folder data/cats_dogs"
    assert not data.loaded.fallback
    assert ready(source="oxford-pet").loaded.source == "Oxford-IIIT Pet", "a forced source passes over the folder"
    assert ready(source="drawn").loaded.fallback


@pytest.mark.parametrize("source", ["folder", "oxford-pet"])
def test_a_forced_source_that_cannot_be_had_is_refused_and_not_replaced(source: str, few_drawn: None) -> None:
    with pytest.raises(InputError, match=f"--source {source}: not available here"):
        ready(source=source)


def test_an_unknown_source_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"--source kaggle: unknown here.*auto, folder, oxford-pet, drawn"):
        ready(source="kaggle")


def test_the_pets_keep_their_official_test_split(image: Path) -> None:
    lay_out(cache_dir() / "oxford-iiit-pet", image)
    data = ready(source="oxford-pet")
    assert data.spec.classes == ("cat", "dog")
    assert data.class_counts() == {
        "train": {"cat": 17, "dog": 34},
        "val": {"cat": 3, "dog": 6},
        "test": {"cat": 4, "dog": 6},
    }
    official = {f"{breed}_{100 + i}.jpg" for breed, count in PETS["test"].items() for i in range(count)}
    assert set(data.ids("test")) == official
    assert not official & {*data.ids("train"), *data.ids("val")}
    assert not {*data.ids("train")} & {*data.ids("val")}
    assert data.notes == []
    assert "official test" in data.loaded.split
    for split in ("train", "val", "test"):
        is_dog = [name[0].islower() for name in data.ids(split)]
        assert data.targets(split).tolist() == [int(dog) for dog in is_dog]


def test_the_split_of_the_pets_does_not_follow_the_runs_seed(image: Path) -> None:
    lay_out(cache_dir() / "oxford-iiit-pet", image)
    assert ready(source="oxford-pet", seed=1).ids("val") == ready(source="oxford-pet", seed=2).ids("val")


def test_a_download_appears_whole(image: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    asked = []
    build = OxfordIIITPet.__init__

    def fetch(self: OxfordIIITPet, root: Path, *args: Any, download: bool = False, **kwargs: Any) -> None:
        if download:
            asked.append(root)
            lay_out(Path(root) / "oxford-iiit-pet", image)
        build(self, root, *args, **kwargs)

    monkeypatch.setattr(OxfordIIITPet, "__init__", fetch)
    monkeypatch.setattr("src.datamodules.images.cats_dogs.reachable", lambda url: True)
    assert ready(source="oxford-pet").sizes() == {"train": 51, "val": 9, "test": 10}
    assert "0.8 GB" in capsys.readouterr().out, "a size is announced before a download"
    assert ready(source="oxford-pet").sizes()["test"] == 10
    assert len(asked) == 1, "downloaded once"
    assert Path(asked[0]) != cache_dir()
    assert {path.name for path in cache_dir().iterdir()} == {
        "oxford-iiit-pet",
        "oxford-iiit-pet.lock",
        "images",
    }


@pytest.mark.parametrize("source", ["auto", "oxford-pet"])
@pytest.mark.parametrize(
    "error",
    [urllib.error.URLError("timed out"), RuntimeError("File not found or corrupted."), OSError(28, "disk full")],
)
def test_a_download_that_breaks_off_is_said_and_leaves_nothing(
    error: Exception, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(self: OxfordIIITPet, root: Path, *args: Any, **kwargs: Any) -> None:
        (Path(root) / "oxford-iiit-pet" / "images").mkdir(parents=True)
        raise error

    monkeypatch.setattr(OxfordIIITPet, "__init__", half)
    monkeypatch.setattr("src.datamodules.images.cats_dogs.reachable", lambda url: True)
    with pytest.raises(InputError, match=r"--source oxford-pet: the download .* broke off.*--source drawn"):
        ready(source=source)
    assert [path for path in cache_dir().iterdir() if path.suffix != ".lock"] == []


def test_an_interrupted_download_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def half(self: OxfordIIITPet, root: Path, *args: Any, **kwargs: Any) -> None:
        (Path(root) / "oxford-iiit-pet" / "images").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(OxfordIIITPet, "__init__", half)
    monkeypatch.setattr("src.datamodules.images.cats_dogs.reachable", lambda url: True)
    with pytest.raises(KeyboardInterrupt):
        ready(source="oxford-pet")
    assert [path for path in cache_dir().iterdir() if path.suffix != ".lock"] == []


def test_nothing_is_downloaded_where_the_host_does_not_answer(few_drawn: None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("src.datamodules.images.cats_dogs.reachable", lambda url: asked.append(url))
    assert ready().loaded.fallback
    assert asked == [OxfordIIITPet._RESOURCES[0][0]]
