"""Drawn images: the same for everybody, balanced, and no easier than they should be."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from src.configs.errors import InputError
from src.datamodules.synthetic.images import KINDS, draw, draw_folder
from src.models import ResNet

TRAIN, TEST = 600, 300


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_folder_is_the_same_every_time_and_other_with_another_seed(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        draw_folder(tmp_path / name, train=4, val=4, test=4, seed=seed)
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    assert a.keys() == c.keys()
    assert not set(a.values()) & set(c.values())
    assert len(set(a.values())) == 12, "no image comes twice, in any split"


def test_other_counts_leave_the_pictures_that_they_share(tmp_path: Path) -> None:
    draw_folder(tmp_path / "few", train=4, val=2, test=2)
    draw_folder(tmp_path / "more", train=8, val=6, test=4)
    few, more = contents(tmp_path / "few"), contents(tmp_path / "more")
    assert few.items() < more.items()


def test_kinds_are_balanced_and_files_are_where_a_folder_of_pictures_has_them(tmp_path: Path) -> None:
    draw_folder(tmp_path / "x", train=6, val=2, test=4)
    counts = {
        split: {kind: len(list((tmp_path / "x" / split / kind).glob("*.jpg"))) for kind in KINDS}
        for split in ("train", "val", "test")
    }
    assert counts == {"train": dict.fromkeys(KINDS, 3), "val": dict.fromkeys(KINDS, 1), "test": dict.fromkeys(KINDS, 2)}
    with Image.open(tmp_path / "x/test/dog/0001.jpg") as image:
        assert (image.mode, image.size) == ("RGB", (128, 128))


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "mine.txt").write_text("mine")
    draw_folder(tmp_path / "x", train=2, val=2, test=2)
    assert [path.name for path in (tmp_path / "x").rglob("*")] == ["mine.txt"]


def test_a_drawing_that_breaks_off_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def full_disk(*args: object, **kwargs: object) -> Image.Image:
        if len(drawn) == 3:
            raise OSError("No space left on device")
        drawn.append(args)
        return Image.new("RGB", (8, 8))

    monkeypatch.setattr("src.datamodules.synthetic.images.draw", full_disk)
    with pytest.raises(InputError, match=r"cannot be kept \(No space left on device\)\. Free some space"):
        draw_folder(tmp_path / "x", train=6, val=2, test=2)
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def test_two_processes_at_once_give_one_whole_folder(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from src.datamodules.synthetic.images import draw_folder\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "draw_folder(Path(sys.argv[1]), train=40, val=4, test=4)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "shared")]
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:  # both start drawing now
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    draw_folder(tmp_path / "alone", train=40, val=4, test=4)
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")
    left = sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".lock")
    assert left == ["alone", "shared"], "no draft is left"


@pytest.fixture(scope="module")
def drawn() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images of 64 pixels, uint8 [count, 64, 64, 3], and their kinds."""
    kinds = np.arange(TRAIN + TEST) % 2
    images = [np.asarray(draw(KINDS[kind], np.random.default_rng([9, i]), 64)) for i, kind in enumerate(kinds)]
    return np.stack(images), kinds


Drawn = tuple[NDArray[np.uint8], NDArray[np.int64]]


def jpeg_bytes(image: NDArray[np.uint8]) -> int:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=90)
    return len(file.getvalue())


def test_brightness_colour_contrast_and_file_size_tell_nothing(drawn: Drawn) -> None:
    images, kinds = drawn
    flat = images.reshape(len(images), -1, 3).astype(np.float32)
    cues = np.concatenate([flat.mean(1), flat.std(1), [[jpeg_bytes(image)] for image in images]], 1)
    for number in range(cues.shape[1]):
        assert abs(roc_auc_score(kinds, cues[:, number]) - 0.5) < 0.1  # five standard errors


def test_a_linear_model_on_pixels_is_not_enough(drawn: Drawn) -> None:
    images, kinds = drawn
    pixels = images.reshape(-1, 32, 2, 32, 2, 3).mean((2, 4)).reshape(len(images), -1)
    pixels = StandardScaler().fit(pixels[:TRAIN]).transform(pixels)
    for strength in (1e-4, 1e-2):
        model = LogisticRegression(C=strength, max_iter=200).fit(pixels[:TRAIN], kinds[:TRAIN])
        assert 0.4 < model.score(pixels[TRAIN:], kinds[TRAIN:]) < 0.8


def test_an_untrained_network_is_at_chance(drawn: Drawn) -> None:
    images, kinds = drawn
    batch = torch.from_numpy(images[TRAIN:]).permute(0, 3, 1, 2).float() / 255
    for seed in range(3):
        torch.manual_seed(seed)
        model = ResNet("test_resnet", 2).eval()
        with torch.no_grad():
            right = model(batch).argmax(1).numpy() == kinds[TRAIN:]
        assert 0.38 < right.mean() < 0.62  # four standard errors
