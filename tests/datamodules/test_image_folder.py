"""Folders of images: how they are split, what is refused or left out, and that every way to load gives the same."""

from __future__ import annotations

import io
import pickle
import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import current_thread
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import ks_2samp
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import RandomResizedCrop, functional

from src.datamodules import Batches, ImageFolder
from src.datamodules.images.chosen import Chosen
from src.datamodules.images.class_folders import scan
from src.datamodules.images.image_dataset import DRAWS, LARGE, random_windows
from src.experiment import Augment, InputError
from src.resources.cache import cache_dir

SIZE = 28
PLAIN = Augment(crop=(1.0, 1.0), flip=False)


def write(path: Path, number: int = 0, **save: Any) -> Path:
    """Write an image of its own for each number: a smooth ramp, different at every corner."""
    path.parent.mkdir(parents=True, exist_ok=True)
    smooth(number).save(path, **save)
    return path


def smooth(number: int = 0, side: int = 64) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side))
    planes = (x, y, (x + 2 * y) / 3)
    shift = (number * 0.37) % 0.5
    return Image.fromarray(np.stack([255 * (0.5 * plane + shift) for plane in planes], -1).astype(np.uint8))


def folder_of(root: Path, counts: dict[str, int]) -> Path:
    """Write so many images into each folder below root, no two alike."""
    number = 0
    for name, count in counts.items():
        for i in range(count):
            write(root / name / f"{i:02d}.png", number)
            number += 1
    return root


def ready(root: Path, **arguments: Any) -> ImageFolder:
    defaults: dict[str, Any] = {"image_size": SIZE, "batch_size": 4}
    data = ImageFolder(root, **defaults | arguments)
    data.setup("fit")
    return data


def joined(batches: Iterator[Any] | DataLoader[Any]) -> dict[str, Tensor]:
    parts = list(batches)
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def epoch_of(loader: DataLoader[Any], epoch: int) -> dict[str, Tensor]:
    batches = loader.sampler
    assert isinstance(batches, Batches)
    batches.set_epoch(epoch)  # as Lightning does before each epoch
    return joined(loader)


# ------------------------------------------------------------------------------------------------ how a folder is split
def names(samples: Chosen) -> set[str]:
    return {samples.files.names[row] for row in samples.rows}


def test_split_folders_are_taken_as_they_are(images: Path) -> None:
    splits, how, _ = scan(images)
    assert how == "as given"
    assert {split: len(items) for split, items in splits.items()} == {"train": 24, "val": 8, "test": 8}
    for split, found in splits.items():
        paths, labels = [found.files[row] for row in found.rows], found.labels
        assert isinstance(labels, list)
        assert all(path.parts[-3:-1] == (split, name) for path, name in zip(paths, labels, strict=True))


def test_valid_and_other_names_mean_val(tmp_path: Path) -> None:
    counts = {"Training/a": 3, "Training/b": 3, "valid/a": 2, "valid/b": 1}
    splits, how, _ = scan(folder_of(tmp_path / "x", counts))
    assert how == "as given"
    assert {split: Counter(found.labels) for split, found in splits.items()} == {
        "train": {"a": 3, "b": 3},
        "val": {"a": 2, "b": 1},
    }


@pytest.mark.parametrize(
    "folders",
    [
        {"train": "Training", "test": "Testing"},
        {"train": "train", "val": "dev", "test": "holdout"},
        {"train": "tr", "val": "Development", "test": "evaluation"},
        {"train": "seg_train", "test": "seg_test"},
        {"train": "seg_train/seg_train", "test": "seg_test/seg_test"},
        {"train": "train-images", "val": "validation-images"},
        {"train": "train_images", "test": "test"},
        {"train": "train2017", "val": "val2017"},
        {"train": "train1", "test": "test1"},
        {"train": "Train", "val": "Validation", "test": "Test"},
        {"train": "train", "val": "valid"},
        {"train": "dataset_train", "test": "dataset_test"},
        {"train": "TrainSet", "test": "testSet"},
        {"train": "trainset", "test": "testset"},
        {"train": "training_set", "test": "test_set"},
        {"train": "train_set", "val": "DEV"},
        {"train": "tr", "val": "va", "test": "te"},
        {"train": "trainval", "test": "test"},
        {"train": "train.v1", "test": "test.v1"},
    ],
    ids=lambda folders: "+".join(folders.values()),
)
def test_splits_of_every_habit(folders: dict[str, str], tmp_path: Path) -> None:
    counts = {f"{folder}/{name}": 8 for folder in folders.values() for name in "ab"}
    splits, _, notes = scan(folder_of(tmp_path / "x", counts))
    for split, folder in folders.items():
        assert {name.rsplit("/", 2)[0] for name in names(splits[split])} == {folder}
    assert set(splits) == {"val", *folders}
    assert notes == []


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (("train", "bus", "test_tube"), "test_tube, train"),
        (("test", "cat", "dog", "owl"), "test"),
        (("training shoes", "running shoes"), "training shoes"),
        (("tr", "te", "en"), ""),
        (("valley", "testament"), ""),
    ],
)
def test_a_class_that_is_called_like_a_split_is_a_class_and_that_is_said(
    classes: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    """Languages are no splits, nor is a word that begins like one."""
    splits, how, notes = scan(folder_of(tmp_path / "x", dict.fromkeys(classes, 8)))
    assert "by class" in how
    assert splits["train"].classes_there() == {*classes}
    assert notes == ([f"taken for a class, not for a split: {said}"] if said else [])


def test_what_is_not_used_is_named(tmp_path: Path) -> None:
    counts = {"train/a": 8, "train/b": 8, "val/a": 2, "val/b": 2, "test": 3, "extra/a": 2, "@eaDir/a": 2}
    root = folder_of(tmp_path / "x", counts | {"train/a/@eaDir": 2, "train/lost+found": 1})
    (root / "train" / "labels.csv").write_text("")
    splits, _, notes = scan(root)
    assert set(splits) == {"train", "val"}
    assert len(names(splits["train"])) == 16
    assert notes == [
        f"not used in {root}: test (1: no class folders in it)",
        f"not used in {root}: extra (1: the name says no split of these)",
        f"not used in {root / 'train'}: labels.csv (1: in no class folder)",
        "passed over: 3 folders that systems leave (@eaDir, lost+found)",
    ]


def test_what_the_intel_images_have_beside_is_named(tmp_path: Path) -> None:
    counts = {f"seg_{split}/seg_{split}/{name}": 8 for split in ("train", "test") for name in "ab"}
    root = folder_of(tmp_path / "x", counts | {"seg_pred/seg_pred": 3})
    (root / "seg_test" / "list.txt").touch()
    (root / "seg_train" / "seg_train" / "c").mkdir()
    _, _, notes = scan(root)
    assert notes == [
        f"not used in {root}: seg_pred (1: the name says no split of these)",
        f"not used in {root / 'seg_test'}: list.txt (1: in no class folder)",
        f"not used in {root / 'seg_train/seg_train'}: c (1: no file in it)",
    ]


def test_unlabelled_images_of_a_test_split_are_not_used_and_named(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "x", {"train/a": 8, "train/b": 8, "test": 3})
    splits, _, notes = scan(root)
    assert set(splits) == {"train", "val"}
    assert notes == [f"not used in {root}: test (1: no class folders in it)"]


def test_what_is_in_no_class_is_named(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "x", {"a": 8, "b": 8, ".": 6})
    (root / "c").mkdir()
    _, _, notes = scan(root)
    assert notes == [
        f"not used in {root}: 00.png, 01.png, 02.png, 03.png, 04.png and 1 more (6: in no class folder)",
        f"not used in {root}: c (1: no file in it)",
    ]


def test_names_of_classes_are_compared_in_one_normal_form(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    root = folder_of(tmp_path / "x", {f"train/{composed}": 4, "train/tea": 4, f"val/{apart}": 2, "val/tea": 2})
    splits, _, notes = scan(root)
    assert splits["val"].classes_there() == splits["train"].classes_there() == {composed, "tea"}
    assert notes == []
    folder_of(root, {f"train/{apart}": 5})
    splits, _, notes = scan(root)
    assert Counter(splits["train"].labels) == {composed: 9, "tea": 4}
    assert notes == [f"one class of several folders whose names look the same, in {root / 'train'}: {composed}"]
    assert {path.parent.name for path in map(splits["train"].files.__getitem__, splits["train"].rows)} == {
        composed,
        apart,
        "tea",
    }, "files are opened as the disk has them"
    assert ready(root).sizes() == {"train": 13, "val": 4}


@pytest.mark.parametrize(
    ("folders", "says"),
    [
        (["train", "dev", "val"], "dev and val are both val. Move one of them elsewhere."),
        (["a_train", "b_train"], "a_train and b_train are both named train. Move one of the two sets elsewhere."),
        (["val", "test"], "test and val look like splits, but none is train. Name one train"),
        (["seg_val", "seg_test"], "seg_test and seg_val look like splits, but none is train. Name one train"),
        (["val", "dev"], "dev and val look like splits, but none is train. Name one train"),
        (["train_val", "test"], "test and train_val look like splits, but none is train. Name one train"),
        (["train1", "train2"], "train1 and train2 are both train. Move one of them elsewhere."),
        (["train", "train_images"], "train and train_images are both train. Move one of them elsewhere."),
        (["training shoes", "running shoes"], "training shoes could be a split, or a class beside running shoes. If"),
        (["train", "bus", "plane"], "train could be a split, or a class beside bus, plane. If it is the split, --da"),
    ],
)
def test_doubtful_splits_are_refused(folders: list[str], says: str, tmp_path: Path) -> None:
    root = folder_of(tmp_path / "x", {f"{folder}/{name}": 3 for folder in folders for name in "ab"})
    with pytest.raises(InputError, match=re.escape(f"--data-dir {root}: {says}")):
        scan(root)


@pytest.mark.parametrize(
    ("folders", "says"),
    [
        (["train", "test"], "test and train look like splits, but have no class folders in them. Expected <split>/<cl"),
        (["Train", "Validation", "bus"], "Train and Validation look like splits, but have no class folders in them."),
        (["seg_train", "seg_test"], "seg_test and seg_train look like splits, but have no class folders in them."),
        (["train1", "train2"], "train1 and train2 are both train. Move one of them elsewhere."),
        (["tr", "te"], "te and tr look like splits, but have no class folders in them."),
        (["val", "dev", "test"], "dev and test and val look like splits, but none is train. Name one train"),
        (["test1", "test2"], "test1 and test2 look like splits, but none is train. Name one train"),
        (
            ["cat/train", "cat/test", "dog/train", "dog/test"],
            "cat/test and cat/train look like splits. If all data are",
        ),
        (["data/train/a", "data/test/a"], "data/test and data/train look like splits. If all data are in there, --dat"),
    ],
)
def test_splits_are_never_taken_for_classes(folders: list[str], says: str, tmp_path: Path) -> None:
    root = folder_of(tmp_path / "x", dict.fromkeys(folders, 5))
    with pytest.raises(InputError, match=re.escape(f"--data-dir {root}: {says}")):
        scan(root)


def test_without_val_it_is_taken_from_train_and_never_from_test(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "x", {"train/a": 20, "train/b": 20, "test/a": 3, "test/b": 3})
    splits, how, _ = scan(root)
    assert "val 15% of train" in how
    assert names(splits["test"]) == {f"test/{c}/{i:02d}.png" for c in "ab" for i in range(3)}
    assert Counter(splits["val"].labels) == {"a": 3, "b": 3}
    assert not names(splits["train"]) & names(splits["val"])
    assert len(splits["train"]) + len(splits["val"]) == 40


def test_plain_class_folders_are_split_by_class_the_same_way_each_time(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "x", {"a": 20, "b/deep/er": 40})
    splits, how, _ = scan(root)
    assert "val 15%" in how
    assert "test 15%" in how
    assert {split: Counter(found.labels) for split, found in splits.items()} == {
        "train": {"a": 14, "b": 28},
        "val": {"a": 3, "b": 6},
        "test": {"a": 3, "b": 6},
    }
    moved = shutil.copytree(root, tmp_path / "elsewhere")
    for again, said, _ in (scan(root), scan(moved)):
        assert said == how
        assert {split: names(found) for split, found in again.items()} == {s: names(i) for s, i in splits.items()}


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "x", {"a": 4, "b": 4, ".git": 1, "a/.thumbnails": 2})
    (root / "b" / ".DS_Store").write_text("x")
    splits, _, notes = scan(root)
    everything = set().union(*(names(found) for found in splits.values()))
    assert everything == {f"{c}/{i:02d}.png" for c in "ab" for i in range(4)}
    assert notes == ["passed over: 1 file that systems leave (.DS_Store), 2 hidden folders (.git, .thumbnails)"]


# ------------------------------------------------------------------------------------------------------ what is refused
def refused(root: Path, **arguments: Any) -> str:
    with pytest.raises(InputError) as error:
        ready(root, **arguments)
    assert str(root) in str(error.value)
    return str(error.value)


def test_folders_that_cannot_train_a_classifier_are_refused(tmp_path: Path) -> None:
    assert "no such folder" in refused(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    assert "at least two class folders" in refused(tmp_path / "empty")
    assert "found: cats" in refused(folder_of(tmp_path / "one", {"cats": 9}))
    assert "found: cats" in refused(folder_of(tmp_path / "split", {"train/cats": 9, "val/cats": 3}))
    assert "class b has 2 examples, too few" in refused(folder_of(tmp_path / "few", {"a": 9, "b": 2}))


def test_a_class_missing_in_a_split_is_refused_by_name(tmp_path: Path) -> None:
    missing = folder_of(tmp_path / "x", {"train/a": 2, "train/b": 2, "val/a": 2})
    assert "val and train differ in classes: b" in refused(missing)
    surplus = folder_of(tmp_path / "y", {"train/a": 2, "train/b": 2, "val/a": 1, "val/b": 1, "val/c": 1})
    assert "val and train differ in classes: c" in refused(surplus)


def test_a_class_with_no_readable_picture_in_a_split_is_refused(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "x", {"train/a": 4, "train/b": 4, "val/a": 1})
    (root / "val" / "b").mkdir()
    (root / "val" / "b" / "only.jpg").touch()
    assert "no readable image of class b in val" in refused(root, unreadable_limit=0.5)


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A folder with 40 good images and three that do not open."""
    root = folder_of(tmp_path / "damaged", {"train/a": 15, "train/b": 15, "val/a": 5, "val/b": 5})
    whole = io.BytesIO()
    smooth().save(whole, "JPEG")
    (root / "train/a/cut.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    (root / "train/b/empty.jpg").touch()
    (root / "val/a/text.jpg").write_text("this is no image\n")
    return root


def test_files_that_do_not_open_are_left_out_and_noted_by_name(damaged: Path) -> None:
    data = ready(damaged, unreadable_limit=0.1)
    assert data.sizes() == {"train": 30, "val": 10}
    (note,) = data.notes
    assert "3 of 43 files" in note
    for name in ("train/a/cut.jpg", "train/b/empty.jpg", "val/a/text.jpg"):
        assert name in note
        assert name not in {*data.ids("train"), *data.ids("val")}
    val = joined(data.val_dataloader())
    assert val["index"].tolist() == list(range(10)), "positions are without gaps"
    assert [data.spec.classes[t] for t in val["target"]] == [id_.split("/")[-2] for id_ in data.ids("val")]
    alone = ready(folder_of(damaged.parent / "whole", {"train/a": 15, "train/b": 15, "val/a": 5, "val/b": 5}))
    assert equal(val, joined(alone.val_dataloader())), "the rows of the others do not shift"
    assert alone.notes == []


def test_too_many_files_that_do_not_open_stop_the_run_and_are_named(damaged: Path) -> None:
    message = refused(damaged)
    assert "3 of 43 files" in message
    for name in ("cut.jpg", "empty.jpg", "text.jpg (not an image)"):
        assert name in message


def test_a_broken_link_is_left_out_like_any_file_that_does_not_open(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "x", {"train/a": 5, "train/b": 5, "val/a": 5, "val/b": 5})
    (root / "train/a/link.png").symlink_to(tmp_path / "nowhere.png")
    data = ready(root, unreadable_limit=0.1)
    assert data.sizes() == {"train": 10, "val": 10}
    assert "link.png" in data.notes[0]


def test_a_picture_in_two_splits_is_noted_and_twice_in_one_is_not(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "x", {"train/a": 3, "train/b": 3, "val/a": 2, "val/b": 2})
    shutil.copy(root / "train/a/00.png", root / "train/a/again.png")
    assert ready(root).notes == []
    shutil.copy(root / "train/a/01.png", root / "val/a/renamed.png")
    (note,) = ready(root).notes
    assert "1 images are in more than one split" in note
    assert "train/a/01.png" in note
    assert "val/a/renamed.png" in note


# ------------------------------------------------------------------------------------------------------ spec and record
def test_setup_is_idempotent(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ready(images)
    before = (data.spec, data.fingerprint, data.loaded, data.notes[:], joined(data.val_dataloader()))
    monkeypatch.setattr("src.datamodules.images.image_files.decode_all", lambda *args: pytest.fail("decoded twice"))
    for stage in ("fit", "validate", "test", "predict"):
        data.setup(stage)
    after = (data.spec, data.fingerprint, data.loaded, data.notes, joined(data.val_dataloader()))
    assert after[:4] == before[:4]
    assert equal(after[4], before[4])


def test_spec_names_the_classes_in_order_and_targets_follow(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "x", {"train/zebra": 3, "train/ant": 2, "val/zebra": 1, "val/ant": 2})
    data = ready(root)
    assert data.spec.classes == ("ant", "zebra")
    assert data.spec.input_shape == (3, SIZE, SIZE)
    assert data.class_counts() == {"train": {"ant": 2, "zebra": 3}, "val": {"ant": 2, "zebra": 1}}
    assert list(data.ids("val")) == ["val/ant/00.png", "val/ant/01.png", "val/zebra/00.png"]
    val = joined(data.val_dataloader())
    assert val["target"].tolist() == [0, 0, 1]
    assert val["image"].dtype == torch.uint8
    assert val["image"].shape == (3, 3, SIZE, SIZE)
    with pytest.raises(InputError, match="has no test split"):
        data.test_dataloader()


def test_fingerprint_follows_names_and_contents_and_not_the_place(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "x", {"train/a": 3, "train/b": 3, "val/a": 2, "val/b": 2})
    first = ready(root).fingerprint
    moved = shutil.copytree(root, tmp_path / "some" / "where" / "else")
    assert ready(moved).fingerprint == first
    assert ready(moved, image_size=14).fingerprint == first
    write(moved / "train/a/00.png", 90)
    changed = ready(moved).fingerprint
    assert changed != first
    (moved / "train/a/00.png").rename(moved / "train/b/90.png")
    assert ready(moved).fingerprint not in (first, changed)


def test_data_of_that_name_serve_before_drawn_ones_and_drawn_ones_are_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "src.datamodules.synthetic.images.draw_folder", lambda root: root.exists() or shutil.copytree(images, root)
    )
    drawn = ImageFolder(image_size=SIZE)
    drawn.setup("fit")
    assert drawn.loaded.fallback
    assert "NOT photographs" in drawn.loaded.source
    shutil.copytree(images, tmp_path / "data" / "images")
    own = ImageFolder(image_size=SIZE)
    own.setup("fit")
    assert own.loaded.source == "folder data/images"
    assert not own.loaded.fallback
    forced = ImageFolder(image_size=SIZE, source="drawn")
    forced.setup("fit")
    assert forced.loaded.fallback


def test_a_named_folder_that_is_missing_is_never_replaced_by_drawn_pictures(tmp_path: Path) -> None:
    assert "no such folder" in refused(tmp_path / "typo")
    assert "no such folder" in refused(tmp_path / "typo", source="folder")


# ------------------------------------------------------------------------------------------------ images as they come
def test_augmentation_differs_by_epoch_and_follows_the_seed(images: Path) -> None:
    def epochs(seed: int) -> list[dict[str, Tensor]]:
        loader = ready(images, seed=seed, batch_size=24).train_dataloader()
        return [by_example(epoch_of(loader, epoch)) for epoch in range(2)]

    def by_example(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        order = batch["index"].argsort()
        return {name: column[order] for name, column in batch.items()}

    first, again, other = epochs(0), epochs(0), epochs(1)
    assert all(equal(a, b) for a, b in zip(first, again, strict=True))
    assert len(first[0]["index"]) == 24
    for changed in (first[1], other[0]):
        same = [torch.equal(a, b) for a, b in zip(first[0]["image"], changed["image"], strict=True)]
        assert sum(same) < 3
        assert torch.equal(first[0]["target"], changed["target"])


def test_augmentation_leaves_the_global_random_state_alone(images: Path) -> None:
    data = ready(images)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    data.dataset("train", train=True)[[0, 1]]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("cache", [True, False])
def test_workers_give_the_same_batches_to_the_bit(images: Path, cache: bool) -> None:
    augment = Augment(rotation=10, colour=0.2)
    alone, shared = (ready(images, num_workers=n, cache=cache, augment=augment) for n in (0, 2))
    ours, theirs = alone.train_dataloader(), shared.train_dataloader()
    for epoch in range(2):
        assert equal(epoch_of(ours, epoch), epoch_of(theirs, epoch))
    assert equal(joined(alone.val_dataloader()), joined(shared.val_dataloader()))


def test_cached_and_uncached_pictures_are_the_same(images: Path) -> None:
    cached, anew = ready(images), ready(images, cache=False)
    assert equal(joined(cached.val_dataloader()), joined(anew.val_dataloader()))
    assert equal(joined(cached.train_dataloader()), joined(anew.train_dataloader()))
    shutil.rmtree(cache_dir())
    assert len(joined(anew.val_dataloader())["index"]) == 8, "reads the files, not the cache"


def test_no_augmentation_trains_on_the_pictures_of_evaluation(images: Path) -> None:
    data = ready(images, augment=PLAIN)
    assert torch.equal(
        data.dataset("train", train=True)[[3]]["image"], data.dataset("train", train=False)[[3]]["image"]
    )


def test_a_turned_picture_is_cut_from_the_larger_one_so_that_its_corners_are_picture(tmp_path: Path) -> None:
    for name in ("train/a/0.png", "train/b/0.png", "val/a/0.png", "val/b/0.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.new("RGB", (64, 64), "white").save(tmp_path / name)
    data = ready(tmp_path, augment=Augment(crop=(1.0, 1.0), flip=False, rotation=6))
    images = data.dataset("train", train=True)[list(range(0, 40, 2))]["image"]
    assert int(images[..., :1, :].min()) > 250
    steep = ready(tmp_path, augment=Augment(crop=(1.0, 1.0), flip=False, rotation=45))
    assert int(steep.dataset("train", train=True)[list(range(0, 40, 2))]["image"].min()) == 0, "the premise"


@pytest.mark.parametrize(
    "augment",
    [
        Augment(crop=(0.3, 0.5), flip=False),
        Augment(crop=(1.0, 1.0), flip=True),
        Augment(crop=(1.0, 1.0), flip=False, rotation=45),
        Augment(crop=(1.0, 1.0), flip=False, colour=0.5),
    ],
    ids=["crop", "flip", "rotation", "colour"],
)
def test_each_augmentation_does_something(images: Path, augment: Augment) -> None:
    data, keys = ready(images, augment=augment), list(range(12))
    changed, plain = (data.dataset("train", train=train)[keys]["image"] for train in (True, False))
    assert changed.shape == plain.shape
    assert changed.dtype == torch.uint8
    different = [not torch.equal(a, b) for a, b in zip(changed, plain, strict=True)]
    assert sum(different) > 2
    if augment.flip:
        mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(changed, plain, strict=True)]
        assert [a != b for a, b in zip(different, mirrored, strict=True)] == [False] * 12
        assert 2 < sum(mirrored) < 10


@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(9, 300),
    area=st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)).map(lambda pair: (min(pair), max(pair))),
)
def test_windows_lie_in_the_picture_and_have_the_area_and_shape_that_was_asked(
    seed: int, size: int, area: tuple[float, float]
) -> None:
    drawn = np.random.default_rng(seed).random((200, DRAWS - 2))
    top, left, bottom, right = random_windows(drawn, size, area).T
    height, width = bottom - top, right - left
    assert min(top.min(), left.min(), height.min() - 1, width.min() - 1) >= 0
    assert max(bottom.max(), right.max()) <= size
    assert ((height + 0.5) * (width + 0.5) >= area[0] * size**2).all()
    small = (height - 0.5) * (width - 0.5) <= area[1] * size**2
    square = np.maximum(height, width) - 0.5 <= (np.minimum(height, width) + 0.5) * 1.25
    assert (small & square | ((height == size) & (width == size))).all()


def test_windows_are_drawn_as_torchvision_draws_them() -> None:
    ours = random_windows(np.random.default_rng(0).random((4000, DRAWS - 2)), 256, (0.3, 1.0))
    image = torch.empty(3, 256, 256)
    theirs = np.array([RandomResizedCrop.get_params(image, [0.3, 1.0], [4 / 5, 5 / 4]) for _ in range(4000)])
    theirs[:, 2:] += theirs[:, :2]  # sizes, where ours has the other corner
    for mine, other in zip(ours.T, theirs.T, strict=True):
        found: Any = ks_2samp(mine, other)
        assert found.pvalue > 1e-4


def test_a_window_is_scaled_as_torchvision_scales_it_to_a_rounding(images: Path) -> None:
    data = ready(images, augment=Augment(crop=(0.3, 0.6), flip=False)).dataset("train", train=True)
    keys = list(range(12))
    windows, _, _ = data._drawn(keys)  # pyright: ignore[reportAttributeAccessIssue]
    stored = data.pixels[data.positions[keys]]  # pyright: ignore[reportAttributeAccessIssue]
    for image, (top, left, bottom, right), whole in zip(data[keys]["image"], windows, stored, strict=True):
        expected = functional.resized_crop(
            torch.from_numpy(whole).permute(2, 0, 1), top, left, bottom - top, right - left, [*image.shape[1:]]
        )
        assert int((image.int() - expected.int()).abs().max()) <= 1


def test_half_of_the_pictures_are_mirrored(images: Path) -> None:
    cropped, keys = Augment(crop=(0.3, 0.6), flip=False), list(range(200))
    mirrored = ready(images, augment=replace(cropped, flip=True)).dataset("train", train=True)[keys]["image"]
    unchanged = ready(images, augment=cropped).dataset("train", train=True)[keys]["image"]
    equal = [torch.equal(one, other) for one, other in zip(mirrored, unchanged, strict=True)]
    turned = [torch.equal(one.flip(-1), other) for one, other in zip(mirrored, unchanged, strict=True)]
    assert all(one != other for one, other in zip(equal, turned, strict=True))
    assert 70 <= sum(turned) <= 130


@pytest.mark.parametrize("cache", [True, False], ids=["cached", "decoded each time"])
def test_threads_give_the_same_pictures(images: Path, cache: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ready(images, image_size=LARGE, cache=cache, augment=Augment(rotation=10)).dataset("train", train=True)
    keys = list(range(11))
    names = set[str]()
    monkeypatch.setattr(cv2, "flip", lambda *a, flip=cv2.flip, **b: names.add(current_thread().name) or flip(*a, **b))
    found = list[Tensor]()
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        names.clear()
        found.append(data[keys]["image"])
        assert names
        assert (names == {"MainThread"}) == (threads == 1)
    assert torch.equal(*found)


def test_a_pictures_changes_do_not_depend_on_its_batch(images: Path) -> None:
    data = ready(images, augment=Augment(colour=0.3)).dataset("train", train=True)
    together = data[[0, 5, 29]]["image"]
    assert torch.equal(together[1], data[[5]]["image"][0])
    assert torch.equal(together[2], data[[29, 1]]["image"][0])


ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}
"""EXIF tag 0x0112 -> how an upright image is stored under it."""


@pytest.mark.parametrize("tag", ORIENTATIONS)
@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_a_picture_with_exif_rotation_is_turned_upright(tag: int, kind: str, tmp_path: Path) -> None:
    root = folder_of(tmp_path / "x", {"train/a": 2, "train/b": 2})
    exif = Image.Exif()
    exif[0x0112] = tag
    (root / "val/a").mkdir(parents=True)
    (root / "val/b").mkdir()
    smooth(7).save(root / f"val/a/upright.{kind}")
    smooth(7).transpose(ORIENTATIONS[tag]).save(root / f"val/b/turned.{kind}", exif=exif)
    upright, turned = joined(ready(root).val_dataloader())["image"].int()
    assert (upright - turned).abs().max() <= (0 if kind == "png" else 8)
    assert (upright - upright.flip(-1)).abs().max() > 60, "the premise: the image is not symmetric"


def kept_as_grey(root: Path, kinds: dict[str, Image.Image]) -> None:
    """Assert that each image, saved as a PNG, comes out of the data module as the first one does."""
    folder_of(root, {"train/a": 2, "train/b": 2, "val/b": 1})
    (root / "val/a").mkdir()
    for name, image in kinds.items():
        image.save(root / "val/a" / f"{name}.png")
    data = ready(root)
    images = dict(zip(data.ids("val"), joined(data.val_dataloader())["image"].int(), strict=True))
    first = images[f"val/a/{next(iter(kinds))}.png"]
    assert first.max() - first.min() > 60, "the premise: there is something to see"
    for name in kinds:
        assert (images[f"val/a/{name}.png"] - first).abs().max() <= 4, name


def test_grey_palette_and_opaque_pictures_come_out_as_their_plain_copies(tmp_path: Path) -> None:
    grey = smooth(3).convert("L")
    kinds = {"rgb": grey.convert("RGB"), "grey": grey, "opaque": grey.convert("RGBA"), "palette": grey.convert("P")}
    kept_as_grey(tmp_path / "x", kinds)


def test_sixteen_bit_pictures_are_scaled_and_not_cut_off_to_white(tmp_path: Path) -> None:
    grey = smooth(3).convert("L")
    wide = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    assert wide.mode == "I;16"
    kept_as_grey(tmp_path / "x", {"grey": grey, "wide": wide})


def test_the_middle_of_an_oblong_picture_is_kept_undistorted(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "x", {"train/a": 2, "train/b": 2, "val/b": 1})
    wide = np.zeros((64, 192, 3), np.uint8)
    wide[:, 64:128] = 200  # the middle square
    (root / "val/a").mkdir()
    Image.fromarray(wide).save(root / "val/a/wide.png")
    Image.fromarray(wide.transpose(1, 0, 2).copy()).save(root / "val/a/tall.png")
    for image in joined(ready(root).val_dataloader())["image"][:2]:
        assert (image == 200).all()


# ------------------------------------------------------------------------------------------------------------ the cache
def cache_files(name: str) -> list[Path]:
    return sorted((cache_dir() / "images").glob(f"*/{name}"))


def test_pictures_are_decoded_once_and_memory_mapped(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ready(images).dataset("val", train=False)
    assert isinstance(first.pixels.base, np.memmap)  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setattr("src.datamodules.images.decoded.decode", lambda *args: pytest.fail("decoded a second time"))
    data = ready(images)
    assert len(joined(data.val_dataloader())["index"]) == 8
    assert len(cache_files("pixels.npy")) == 1


def test_a_changed_file_is_decoded_again(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "x", {"train/a": 2, "train/b": 2, "val/a": 1, "val/b": 1})
    before = joined(ready(root).val_dataloader())["image"]
    write(root / "val/a/00.png", 77)
    after = joined(ready(root).val_dataloader())["image"]
    assert not torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def scribble(path: Path) -> None:
    path.write_bytes(b"[]")


@pytest.mark.parametrize("name", ["pixels.npy", "index.json"])
@pytest.mark.parametrize("harm", [halve, empty, scribble, Path.unlink])
def test_a_damaged_cache_is_built_anew(images: Path, name: str, harm: Callable[[Path], None]) -> None:
    whole = joined(ready(images).val_dataloader())
    (file,) = cache_files(name)
    harm(file)
    assert equal(joined(ready(images).val_dataloader()), whole)
    (again,) = cache_files(name)
    assert again == file
    assert file.stat().st_size > 2


def test_a_disk_too_small_for_the_cache_decodes_when_needed(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = joined(ready(images).val_dataloader())
    shutil.rmtree(cache_dir())
    tight = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr("src.datamodules.images.decoded.shutil.disk_usage", lambda path: tight)
    data = ready(images)
    assert cache_files("pixels.npy") == []
    assert equal(joined(data.val_dataloader()), whole)
    monkeypatch.setattr("src.datamodules.images.decoded.shutil.disk_usage", lambda path: tight._replace(free=10**9))
    assert equal(joined(ready(images).val_dataloader()), whole)
    assert len(cache_files("pixels.npy")) == 1, "there is room now"


def test_colleagues_may_read_the_cache_and_what_a_killed_process_left_goes(images: Path) -> None:
    ready(images)
    (file,) = cache_files("pixels.npy")
    assert file.parent.stat().st_mode & 0o777 == images.stat().st_mode & 0o777 | 0o755
    left = file.parent.with_suffix(".part")
    file.parent.rename(left)
    ready(images)
    assert cache_files("pixels.npy") == [file]


# ------------------------------------------------------------------------------------------------------ spawned workers
def test_the_data_set_reaches_spawned_workers(images: Path) -> None:
    dataset = ready(images).dataset("train", train=True)
    loader = DataLoader(
        dataset,
        sampler=Batches(24, 12, train=True),
        batch_size=None,
        num_workers=1,
        multiprocessing_context="spawn",
    )
    assert equal(joined(loader), joined(iter([dataset[keys] for keys in Batches(24, 12, train=True)])))


def test_pickling_does_not_copy_the_pixels(images: Path) -> None:
    dataset = ready(images, image_size=112).dataset("train", train=True)
    sent = pickle.dumps(dataset)
    assert equal(pickle.loads(sent)[[0, 5]], dataset[[0, 5]])
    assert len(sent) < 100_000, "40 images of 128 x 128 are 2 MB: each spawned worker would hold all in memory"
    assert len(pickle.dumps(ready(images, image_size=112))) < 100_000, "nor does ddp_spawn send them"


# ----------------------------------------------------------------------------------------------------------- prediction
def test_prediction_keeps_the_order_searches_folders_and_says_why_a_file_does_not_open(
    images: Path, damaged: Path
) -> None:
    spec = ready(images).spec
    data = ImageFolder(image_size=SIZE, batch_size=3)  # as after the training data are gone
    inputs = [images / "val/dog/0002.jpg", damaged / "val", images / "val/cat/0001.jpg"]
    ids = data.prepare_prediction(inputs, spec)
    below = [damaged / "val" / c / f"{i:02d}.png" for c in "ab" for i in range(5)]
    below.insert(5, damaged / "val/a/text.jpg")
    assert list(ids) == [str(path) for path in (inputs[0], *below, inputs[2])]
    data.setup("predict")
    batches = list(data.predict_dataloader())
    errors = {index: why for batch in batches for index, why in batch["error"].items()}
    assert errors == {ids.index(str(damaged / "val/a/text.jpg")): "not an image"}
    assert torch.cat([batch["index"] for batch in batches]).tolist() == [i for i in range(len(ids)) if i not in errors]
    assert sum(len(batch["image"]) for batch in batches) == len(ids) - 1


def test_pictures_for_prediction_are_those_of_evaluation(images: Path) -> None:
    data = ready(images)
    ids = data.prepare_prediction([images / "val"], data.spec)
    assert [str(Path(id_).relative_to(images)) for id_ in ids] == list(data.ids("val"))
    assert torch.equal(joined_images(data.predict_dataloader()), joined(data.val_dataloader())["image"])


def joined_images(loader: DataLoader[Any]) -> Tensor:
    return torch.cat([batch["image"] for batch in loader])


def test_prediction_on_nothing_is_refused_by_name(images: Path, tmp_path: Path) -> None:
    data = ready(images)
    with pytest.raises(InputError, match=r"nowhere\.jpg: no such file or folder"):
        data.prepare_prediction([tmp_path / "nowhere.jpg"], data.spec)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: nothing to predict"):
        data.prepare_prediction([tmp_path / "empty"], data.spec)
