"""Small grey images: which source serves, how splits are made, what is refused, and how training images move."""

from __future__ import annotations

import csv
import gzip
import io
import pickle
import shutil
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST, FashionMNIST

from experiments.digits import DigitsCNN
from src.configs.table import Csv
from src.datamodules import Batches, Digits, Fold
from src.datamodules.images.digits import Moved
from src.datamodules.images.idx_files import read_sheet
from src.datamodules.images.preparation import ImagePreparation
from src.datamodules.tensors import Slices
from src.experiment import InputError
from src.inference.batch import predict
from src.resources.cache import cache_dir
from src.runs import records
from src.training import runner
from src.training.trainer import quieten

TRAIN, TEST = 120, 30
"""Images in the idx files of these tests; classes take turns."""
FILES = [f"{prefix}-{kind}-ubyte" for prefix in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
SOURCES = ["file", "download", "debian", "sklearn"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the checkout's own `data` nor Debian's package is seen, and no server answers."""
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    monkeypatch.setattr("src.datamodules.images.digits.DEBIAN", tmp_path / "debian")
    monkeypatch.setattr("src.datamodules.images.digits.reachable", lambda url: False)


def write_idx(path: Path, values: np.ndarray) -> None:
    """Write an idx file (http://yann.lecun.com/exdb/mnist/): two zeros, type, dimensions, big-endian sizes, values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    data = header + values.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def drawn(count: int, first: int = 0) -> np.ndarray:
    """Return images [count, 28, 28], no two alike: a number and its class in bright pixels on dark noise."""
    images = np.random.default_rng(first).integers(0, 30, (count, 28, 28))
    images[:, 10:18, 10:18] = 200 + np.arange(count)[:, None, None] % 10
    images[:, 5, 5], images[:, 5, 6] = (first + np.arange(count)) // 256, (first + np.arange(count)) % 256
    return images.astype(np.uint8)


def lay_out(folder: Path, *, packed: bool = False) -> Path:
    """Write the four files of a small MNIST."""
    for prefix, count, first in (("train", TRAIN, 0), ("t10k", TEST, 1000)):
        end = ".gz" if packed else ""
        write_idx(folder / f"{prefix}-images-idx3-ubyte{end}", drawn(count, first))
        write_idx(folder / f"{prefix}-labels-idx1-ubyte{end}", np.arange(count) % 10)
    return folder


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    return lay_out(tmp_path / "mnist")


def ready(data_dir: Path | None = None, **arguments: Any) -> Digits:
    data = Digits(data_dir, **arguments)
    data.setup("fit")
    return data


def refused(data_dir: Path | None = None, **arguments: Any) -> str:
    with pytest.raises(InputError) as error:
        ready(data_dir, **arguments)
    return str(error.value)


def joined(loader: DataLoader[Any]) -> dict[str, Tensor]:
    parts = list(loader)
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


# -------------------------------------------------------------------------------------------------------------- sources
def test_sources_serve_in_their_order(tmp_path: Path) -> None:
    wanted = "fashion-mnist"
    assert list(Digits().sources()) == SOURCES
    assert ready(dataset=wanted).loaded.source == "scikit-learn's 8x8 digits (NOT fashion-mnist)"
    lay_out(tmp_path / "debian", packed=True)
    assert ready(dataset=wanted).loaded.source == "Fashion-MNIST (Debian's dataset-fashion-mnist)"
    lay_out(cache_dir() / wanted)
    assert ready(dataset=wanted).loaded.source == "FashionMNIST (torchvision)"
    lay_out(Path("data") / wanted)
    assert ready(dataset=wanted).loaded.source == "folder data/fashion-mnist"
    own = lay_out(tmp_path / "own")
    assert ready(own, dataset=wanted).loaded.source == f"folder {own}"
    assert ready(own, dataset=wanted, source="file").loaded.source == f"folder {own}"
    forced = [ready(dataset=wanted, source=source).loaded.source for source in SOURCES]
    assert [source.split()[0] for source in forced] == ["folder", "FashionMNIST", "Fashion-MNIST", "scikit-learn's"]


def test_mnist_and_fashion_mnist_are_not_taken_for_one_another() -> None:
    lay_out(Path("data/fashion-mnist"))
    lay_out(cache_dir() / "fashion-mnist")
    assert ready().loaded.fallback, "neither the folder nor the cache of the other one serves"
    lay_out(cache_dir() / "mnist")
    assert ready().loaded.source == "MNIST (torchvision)"


@pytest.mark.parametrize("source", ["file", "download", "debian"])
def test_a_forced_source_that_cannot_be_had_is_refused_and_not_replaced(source: str) -> None:
    assert f"--source {source}: not available here" in refused(source=source)


def test_an_unknown_source_is_refused_with_the_known_ones() -> None:
    assert "--source hub: unknown here. Choose from auto, file, download, debian, sklearn." in refused(source="hub")


@pytest.mark.parametrize("source", ["auto", "file"])
def test_a_named_folder_that_is_missing_is_never_replaced(source: str, tmp_path: Path) -> None:
    lay_out(Path("data/mnist"))
    assert f"--data-dir {tmp_path / 'typo'}: no such folder" in refused(tmp_path / "typo", source=source)


@pytest.mark.parametrize(
    ("dataset", "stand_ins"),
    [("mnist", {"debian", "sklearn"}), ("fashion-mnist", {"sklearn"})],
)
def test_what_was_not_asked_for_stands_in_under_its_own_names(
    dataset: Any, stand_ins: set[str], tmp_path: Path
) -> None:
    lay_out(tmp_path / "debian", packed=True)
    lay_out(cache_dir() / dataset)
    lay_out(Path("data") / dataset)
    for source in SOURCES:
        data = ready(dataset=dataset, source=source)
        clothes = (dataset == "fashion-mnist" and source != "sklearn") or source == "debian"
        assert data.loaded.fallback == (source in stand_ins), source
        assert (f"(NOT {dataset})" in data.loaded.source) == (source in stand_ins)
        assert data.spec.classes == (tuple(FashionMNIST.classes) if clothes else tuple("0123456789"))


def test_fashions_classes_are_the_published_ones() -> None:
    names = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
    lay_out(Path("data/fashion-mnist"))
    assert ready(dataset="fashion-mnist").spec.classes == tuple(names.split(","))


# ------------------------------------------------------------------------------------------------------------- splits
def test_the_official_test_stays_and_validation_is_a_sixth_of_train_by_class(mnist: Path) -> None:
    data = ready(mnist)
    assert data.sizes() == {"train": 100, "val": 20, "test": TEST}
    assert data.loaded.split == "official test, val 20 of train by class, seed 0"
    assert data.class_counts() == {
        split: {str(digit): count for digit in range(10)} for split, count in (("train", 10), ("val", 2), ("test", 3))
    }
    assert data.ids("test") == [f"t10k-{row:05d}" for row in range(TEST)]
    held_out = {*data.ids("train"), *data.ids("val")}
    assert held_out == {f"train-{row:05d}" for row in range(TRAIN)}
    for split in ("train", "val", "test"):
        rows = [int(name[-5:]) for name in data.ids(split)]
        assert data.targets(split).tolist() == [row % 10 for row in rows]
        whole = drawn(TEST, 1000) if split == "test" else drawn(TRAIN)
        assert np.array_equal(data.examples(split, range(len(rows)))[:, 0].numpy(), whole[rows])


def test_the_division_follows_neither_the_runs_seed_nor_the_order_of_asking(mnist: Path) -> None:
    assert ready(mnist, seed=1).ids("val") == ready(mnist, seed=2).ids("val")


def test_scikit_learns_digits_are_divided_by_class_and_scaled() -> None:
    data = ready(source="sklearn", image_size=8)
    digits: Any = load_digits()
    assert sum(data.sizes().values()) == 1797
    assert data.sizes()["val"] == data.sizes()["test"] == 269
    for counts in zip(*(data.class_counts()[split].values() for split in ("val", "test")), strict=True):
        assert counts[0] == counts[1] in (26, 27)
    assert len({*data.ids("train"), *data.ids("val"), *data.ids("test")}) == 1797
    for split in data.sizes():
        rows = [int(name.removeprefix("sklearn-")) for name in data.ids(split)]
        assert data.targets(split).tolist() == digits.target[rows].tolist()
        images = data.examples(split, range(len(rows)))[:, 0].numpy()
        assert np.abs(images / 255 * 16 - digits.images[rows]).max() < 0.04
        assert (images.min(), images.max()) == (0, 255)


def test_folds_take_turns_as_the_test_split() -> None:
    seen: Counter[str] = Counter()
    for number in (1, 2, 3):
        data = Digits(source="sklearn")
        data.fold = Fold(number, 3)
        data.setup("fit")
        assert len({*data.ids("train"), *data.ids("val"), *data.ids("test")}) == 1797
        assert len(set(data.class_counts()["test"])) == 10
        seen.update(data.ids("test"))
    assert len(seen) == 1797
    assert set(seen.values()) == {1}


# ------------------------------------------------------------------------------------------------------ spec and record
def test_pictures_of_any_stored_size_come_in_the_size_that_is_asked_for(mnist: Path) -> None:
    for data in (ready(mnist, image_size=20), ready(source="sklearn", image_size=20)):
        assert data.spec.input_shape == (1, 20, 20)
        batch = next(iter(data.val_dataloader()))
        assert batch["image"].shape[1:] == (1, 20, 20)
        assert batch["image"].dtype == torch.uint8
        assert data.examples("val", [3, 1]).shape == (2, 1, 20, 20)
        assert data.baseline_inputs("val").shape == (data.sizes()["val"], 400)
    small, large = (ready(source="sklearn", image_size=size).examples("val", range(269)) for size in (8, 28))
    assert small.float().mean().item() == pytest.approx(large.float().mean().item(), rel=0.02)


def test_setup_is_idempotent_and_needs_no_data_for_prediction(mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ready(mnist)
    monkeypatch.setattr("src.datamodules.images.digits.read_sheet", lambda *args: pytest.fail("read a second time"))
    for stage in ("fit", "validate", "test", "predict"):
        data.setup(stage)
    Digits(mnist / "gone").setup("predict")


def test_fingerprint_follows_names_and_contents_and_not_packing_place_or_size(mnist: Path, tmp_path: Path) -> None:
    first = ready(mnist).fingerprint
    packed = lay_out(tmp_path / "packed", packed=True)
    assert [path.suffix for path in packed.iterdir()] == [".gz"] * 4
    assert ready(packed, image_size=14, seed=5).fingerprint == first
    images, labels = drawn(TEST, 1000), np.arange(TEST) % 10
    images[7, 0, 0] ^= 1
    write_idx(mnist / "t10k-images-idx3-ubyte", images)
    changed = ready(mnist).fingerprint
    labels[[3, 4]] = labels[[4, 3]]
    write_idx(mnist / "t10k-labels-idx1-ubyte", labels)
    assert len({first, changed, ready(mnist).fingerprint}) == 3


def test_a_picture_in_two_splits_is_noted_and_twice_in_one_is_not(mnist: Path) -> None:
    assert ready(mnist).notes == []
    row = int(ready(mnist).ids("train")[0][-5:])
    test = drawn(TEST, 1000)
    test[4] = test[14]
    write_idx(mnist / "t10k-images-idx3-ubyte", test)
    assert ready(mnist).notes == []
    test[9] = drawn(TRAIN)[row]
    write_idx(mnist / "t10k-images-idx3-ubyte", test)
    (note,) = ready(mnist).notes
    assert note.startswith("1 images of val and test are in an earlier split too")
    assert note.endswith("t10k-00009")


# ------------------------------------------------------------------------------------------------------ what is refused
def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def scribble(path: Path) -> None:
    path.write_bytes(b"<html>503 Service Unavailable</html>")


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + bytes(3))


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("harm", [halve, empty, scribble])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_refused_by_name(
    name: str, harm: Callable[[Path], None], packed: bool, tmp_path: Path
) -> None:
    path = lay_out(tmp_path / "x", packed=packed) / f"{name}{'.gz' if packed else ''}"
    harm(path)
    assert f"{path}: not a whole idx file" in refused(path.parent)


@pytest.mark.parametrize("name", FILES)
def test_a_file_with_something_behind_its_end_is_refused(name: str, mnist: Path) -> None:
    lengthen(mnist / name)
    assert f"{mnist / name}: not a whole idx file" in refused(mnist)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused_by_name_and_nothing_takes_its_place(name: str, mnist: Path) -> None:
    (mnist / name).unlink()
    message = refused(mnist)
    assert f"{mnist / name}: no such file, nor {name}.gz" in message
    assert "{train,t10k}-{images-idx3,labels-idx1}-ubyte" in message


def test_pictures_and_labels_that_do_not_go_together_are_refused(mnist: Path) -> None:
    labels = mnist / "train-labels-idx1-ubyte"
    write_idx(labels, np.arange(TRAIN - 1) % 10)
    assert f"{labels}: 119 labels for the 120 images in train-images-idx3-ubyte" in refused(mnist)
    write_idx(labels, np.arange(TRAIN) % 11)
    assert f"{labels}: label 10, but labels go from 0 to 9" in refused(mnist)
    shutil.copy(mnist / "train-images-idx3-ubyte", labels)
    assert f"{labels}: not a whole idx file (x should have 1 dimension" in refused(mnist)


def test_files_without_pictures_are_refused(mnist: Path) -> None:
    write_idx(mnist / "t10k-images-idx3-ubyte", np.zeros((0, 28, 28)))
    write_idx(mnist / "t10k-labels-idx1-ubyte", np.zeros(0))
    assert f"{mnist / 't10k-images-idx3-ubyte'}: not a whole idx file" in refused(mnist)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"shift": -1}, "--shift -1: from 0 to below the images' 28 pixels"),
        ({"shift": 14, "image_size": 14}, "--shift 14: from 0 to below the images' 14 pixels"),
        ({"image_size": 0}, "--image-size 0: at least 1"),
    ],
)
def test_impossible_numbers_are_refused_by_flag(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Digits(**arguments)


# ------------------------------------------------------------------------------------------------------------- download
@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Servers seem to answer; the list has those that were asked whether they do."""
    urls: list[str] = []

    def reachable(url: str) -> bool:
        urls.append(url)
        return True

    monkeypatch.setattr("src.datamodules.images.digits.reachable", reachable)
    return urls


def left_behind() -> list[str]:
    return [path.name for path in cache_dir().iterdir() if path.suffix != ".lock"]


@pytest.mark.parametrize("kind", [MNIST, FashionMNIST])
def test_a_data_set_is_downloaded_once_and_appears_whole(
    kind: type[MNIST], asked: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fetched: list[Path] = []

    def fetch(self: MNIST) -> None:
        fetched.append(lay_out(Path(self.raw_folder)))

    monkeypatch.setattr(kind, "download", fetch)
    dataset: Any = {MNIST: "mnist", FashionMNIST: "fashion-mnist"}[kind]
    first = ready(dataset=dataset)
    assert asked == [kind.mirrors[0]]
    assert first.sizes() == {"train": 100, "val": 20, "test": TEST}
    assert not first.loaded.fallback
    said = capsys.readouterr().out
    assert f"downloading {kind.__name__}, " in said
    assert " MB, to " in said, "a size is announced before a download"
    assert ready(dataset=dataset, source="download").fingerprint == first.fingerprint
    assert len(fetched) == 1
    assert left_behind() == [dataset]
    assert sorted(path.name for path in (cache_dir() / dataset).iterdir()) == sorted(FILES)


@pytest.mark.parametrize("source", ["auto", "download"])
@pytest.mark.parametrize(
    "error",
    [RuntimeError("Error downloading train-images"), OSError(28, "disk full"), EOFError("cut short")],
    ids=["mirrors", "disk", "gzip"],
)
@pytest.mark.usefixtures("asked")
def test_a_download_that_breaks_off_is_said_and_leaves_nothing(
    error: Exception, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(self: MNIST) -> None:
        write_idx(Path(self.raw_folder) / FILES[0], drawn(3))
        raise error

    monkeypatch.setattr(MNIST, "download", half)
    message = refused(source=source)
    assert f"--source download: the download of MNIST broke off ({error})" in message
    assert "data/mnist" in message
    assert "--source sklearn" in message
    assert left_behind() == []


@pytest.mark.usefixtures("asked")
def test_an_interrupted_download_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def half(self: MNIST) -> None:
        write_idx(Path(self.raw_folder) / FILES[0], drawn(3))
        raise KeyboardInterrupt

    monkeypatch.setattr(MNIST, "download", half)
    with pytest.raises(KeyboardInterrupt):
        ready()
    assert left_behind() == []


def test_nothing_is_downloaded_where_the_server_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MNIST, "download", lambda self: pytest.fail("downloaded"))
    assert ready().loaded.fallback


# ------------------------------------------------------------------------------------------------ images as they come
def test_evaluation_gives_every_picture_once_in_order_and_as_it_is(mnist: Path) -> None:
    data = ready(mnist, batch_size=7, shift=3, flip=True)
    val = joined(data.val_dataloader())
    assert val["index"].tolist() == list(range(20))
    assert torch.equal(val["target"], data.targets("val"))
    assert torch.equal(val["image"], data.examples("val", range(20)))
    assert torch.equal(joined(data.test_dataloader())["image"][:, 0], torch.from_numpy(drawn(TEST, 1000)))


def test_without_shift_and_flip_training_images_are_as_they_are(mnist: Path) -> None:
    data = ready(mnist, batch_size=10)
    train = joined(data.train_dataloader())
    assert sorted(train["index"].tolist()) == list(range(100))
    assert train["index"].tolist() != list(range(100))
    assert torch.equal(train["image"], data.examples("train", train["index"].tolist()))


def dots(count: int, size: int = 9) -> dict[str, Tensor]:
    """Return images with one bright pixel, left of the middle."""
    images = torch.zeros(count, 1, size, size, dtype=torch.uint8)
    images[:, 0, 4, 3] = 255
    return {"image": images, "target": torch.arange(count) % 10}


def moved(count: int = 400, *, shift: int = 0, flip: bool = False, seed: int = 0) -> Moved:
    return Moved(dots(count), shift=shift, flip=flip, seed=seed)


def places(images: Tensor) -> list[tuple[int, int]]:
    """Return row and column of each image's only bright pixel."""
    assert (images.sum((1, 2, 3)) == 255).all()
    found = [tuple(image[0].nonzero()[0].tolist()) for image in images]
    return [(row, column) for row, column in found]


def test_shifts_reach_all_of_their_range_evenly_and_nothing_beyond() -> None:
    batch = moved(2500, shift=2)[list(range(2500))]
    assert batch["image"].dtype == torch.uint8
    assert batch["image"].shape == (2500, 1, 9, 9)
    counts = Counter(places(batch["image"]))
    assert set(counts) == {(row, column) for row in range(2, 7) for column in range(1, 6)}
    assert min(counts.values()) > 60, "a hundred each, but for chance"


def test_what_is_shifted_out_is_gone_and_zeros_come_in() -> None:
    images = torch.full((300, 1, 5, 5), 7, dtype=torch.uint8)
    batch = Moved({"image": images, "target": torch.zeros(300)}, shift=4, flip=False, seed=0)[list(range(300))]
    sums = batch["image"].long().sum((1, 2, 3))
    assert set(batch["image"].unique().tolist()) == {0, 7}
    assert set(sums.tolist()) == {7 * height * width for height in range(1, 6) for width in range(1, 6)}


def test_every_second_picture_is_mirrored_left_to_right() -> None:
    counts = Counter(places(moved(flip=True)[list(range(400))]["image"]))
    assert set(counts) == {(4, 3), (4, 5)}
    assert 160 < counts[4, 3] < 240
    both = Counter(column for _, column in places(moved(flip=True, shift=1)[list(range(400))]["image"]))
    assert set(both) == {2, 3, 4, 5, 6}


def test_a_move_depends_on_seed_epoch_and_example_only() -> None:
    arguments: dict[str, Any] = {"shift": 2, "flip": True}
    size = 400
    keys = [epoch * size + index for epoch in (0, 3) for index in range(size)]
    together = moved(**arguments)[keys]["image"]
    order = np.random.default_rng(5).permutation(len(keys))
    dataset = moved(**arguments)
    for part in np.array_split(order, 37):  # other batches, and both epochs in each
        assert torch.equal(dataset[[keys[i] for i in part]]["image"], together[torch.from_numpy(part)])
    alone = torch.cat([moved(**arguments)[[key]]["image"] for key in keys[:20]])
    assert torch.equal(alone, together[:20])
    other = moved(**arguments, seed=1)[keys]["image"]
    for changed in (together[size:], other[:size]):
        same = [a == b for a, b in zip(places(changed), places(together[:size]), strict=True)]
        assert sum(same) < 0.1 * size, "one in fifty, by chance"


def test_workers_and_spawned_ones_give_the_same_batches(mnist: Path) -> None:
    alone, shared = (
        joined(ready(mnist, batch_size=10, shift=2, flip=True, num_workers=workers).train_dataloader())
        for workers in (0, 2)
    )
    assert all(torch.equal(alone[name], shared[name]) for name in alone)
    dataset = ready(mnist, shift=2, flip=True).dataset("train", train=True)
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[[205, 3]]["image"], dataset[[205, 3]]["image"])


def test_epochs_differ_and_batches_of_another_size_hold_the_same_pictures(mnist: Path) -> None:
    def epoch(number: int, batch_size: int) -> Tensor:
        data = ready(mnist, batch_size=batch_size, shift=2, flip=True)
        dataset, batches = data.dataset("train", train=True), Batches(100, batch_size, train=True)
        batches.set_epoch(number)
        parts = [dataset[keys] for keys in batches]
        order = torch.cat([part["index"] for part in parts]).argsort()
        return torch.cat([part["image"] for part in parts])[order]

    assert torch.equal(epoch(2, 10), epoch(2, 25))
    assert not torch.equal(epoch(2, 10), epoch(1, 10))


def test_moving_leaves_pictures_targets_and_the_global_random_state_alone() -> None:
    columns = dots(50)
    before, state = columns["image"].clone(), torch.get_rng_state()
    batch = Moved(columns, shift=2, flip=True, seed=0)[[107, 3]]
    assert torch.equal(columns["image"], before)
    assert torch.equal(torch.get_rng_state(), state)
    plain = Slices(columns)[[107, 3]]
    assert torch.equal(batch["target"], plain["target"])
    assert batch["index"].tolist() == plain["index"].tolist() == [7, 3]


# ----------------------------------------------------------------------------------------------------------- prediction
def save(images: Tensor, folder: Path) -> Path:
    """Write images [n, 1, height, width] as grey PNGs."""
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image[0].numpy()).save(folder / f"{number:04d}.png")
    return folder


def test_pictures_for_prediction_are_those_of_evaluation(mnist: Path, tmp_path: Path) -> None:
    data = ready(mnist, batch_size=6)
    folder = save(data.examples("val", range(20)), tmp_path / "saved")
    ids = data.prepare_prediction([folder], data.spec)
    assert list(ids) == [str(folder / f"{number:04d}.png") for number in range(20)]
    batches = list(data.predict_dataloader())
    assert torch.equal(torch.cat([batch["image"] for batch in batches]), joined(data.val_dataloader())["image"])
    assert torch.cat([batch["index"] for batch in batches]).tolist() == list(range(20))
    assert not any(batch["error"] for batch in batches)


def test_pictures_for_prediction_are_resized_as_the_data_are(tmp_path: Path) -> None:
    small, large = (ready(source="sklearn", image_size=size) for size in (8, 28))
    folder = save(small.examples("val", range(60)), tmp_path / "saved")
    for data in (small, large):
        predicting = Digits(source="sklearn")  # the spec alone says which size
        predicting.prepare_prediction([folder], data.spec)
        images = torch.cat([batch["image"] for batch in predicting.predict_dataloader()])
        assert torch.equal(images, data.examples("val", range(60)))


def test_colour_becomes_grey_as_pillow_has_it_and_bad_files_are_named(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)
    Image.fromarray(colours).save(tmp_path / "colour.png")
    (tmp_path / "text.png").write_text("this is no image\n")
    how = ImagePreparation(stored_size=28, image_size=28, csv=Csv(), grey=True)
    index, values, errors = how.read([tmp_path / "text.png", tmp_path / "colour.png"], []).arrays([0, 1])
    assert np.array_equal(values["image"][0, 0], np.asarray(Image.fromarray(colours).convert("L")))
    assert (index, errors) == ([1], {0: "not an image"})
    assert how.read([tmp_path / "text.png"], []).arrays([0]).values["image"].shape == (0, 1, 28, 28)


def test_prediction_on_nothing_is_refused_by_name(mnist: Path, tmp_path: Path) -> None:
    data = ready(mnist)
    with pytest.raises(InputError, match=r"nowhere\.png: no such file or folder"):
        data.prepare_prediction([tmp_path / "nowhere.png"], data.spec)


def test_a_run_predicts_saved_pictures_as_it_evaluated_them(tmp_path: Path) -> None:
    quieten()
    run = runner.run(DigitsCNN(source="sklearn", max_epochs=1, limit_train_batches=10))
    data = ready(source="sklearn")
    folder = save(data.examples("val", range(data.sizes()["val"])), tmp_path / "saved")
    text, failed, _ = predict(run, [folder], calibrate=False)
    assert failed == 0
    found = list(csv.DictReader(io.StringIO(text)))
    own = list(csv.DictReader(io.StringIO((run / "predictions_val.csv").read_text())))
    assert [row["label"] for row in found] == [row["label"] for row in own]
    assert len({row["label"] for row in found}) > 3, "the premise: the network tells images apart"
    for mine, theirs in zip(found, own, strict=True):
        assert float(mine["prob_3"]) == pytest.approx(float(theirs["prob_3"]), abs=1e-3)
    record = records.load(run)
    assert record["data"]["stand_in"]
    assert record["data"]["source"] == "scikit-learn's 8x8 digits (NOT mnist)"


def test_the_reader_takes_the_plain_file_where_both_are_there(tmp_path: Path) -> None:
    folder = lay_out(lay_out(tmp_path / "both"), packed=True)
    for name in FILES:
        scribble(folder / f"{name}.gz")
    assert len(read_sheet(folder, "train", tuple("0123456789"))) == TRAIN
