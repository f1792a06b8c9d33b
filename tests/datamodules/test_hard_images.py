"""Image files as they are met in the world: huge, odd, rotated, moving, misnamed, vanishing, and very many."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from odd_images import BYTES, STORED, png_of_size, saved
from PIL import Image
from test_image_folder import folder_of, ready, smooth, write

from src.datamodules import ImageFolder
from src.datamodules.images import decoding, listing
from src.datamodules.images.decoded import decode_all
from src.datamodules.images.decoding import decode
from src.datamodules.images.image_dataset import threads
from src.datamodules.passed_over import PassedOver
from src.experiment import InputError

SIDE = 32
COUNTS = {"train/a": 4, "train/b": 4, "val/a": 2, "val/b": 2}


def decoded(image: Image.Image, kind: str, tmp_path: Path, **how: Any) -> np.ndarray:
    path = tmp_path / f"image.{kind}"
    path.write_bytes(saved(image, kind, **how))
    return decode(path, SIDE).astype(int)


# ----------------------------------------------------------------------------------------------- very large, and bombs
def png_bomb(width: int, height: int) -> bytes:
    """Return a whole PNG of so many black pixels, a thousandth of them in bytes."""
    packer = zlib.compressobj(9)
    row = bytes((width + 7) // 8 + 1)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def sized(jpeg: bytes, height: int, width: int) -> bytes:
    """Return a JPEG that says it has another size."""
    at = next(i for i in (jpeg.find(b"\xff\xc0"), jpeg.find(b"\xff\xc2")) if i >= 0) + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


def jpeg_of_size(side: int) -> bytes:
    """Return a whole JPEG, dark at the left and light at the right: its rows of blocks repeat one row, in 26 MB."""
    ramp = np.broadcast_to(np.linspace(0, 255, side).astype(np.uint8)[None, :, None], (32, side, 3))
    strip = saved(Image.fromarray(np.ascontiguousarray(ramp)), "jpeg", restart_marker_rows=1)
    start = strip.index(b"\xff\xda") + 14
    row = strip[start : strip.index(b"\xff\xd0", start)]
    rows = (row + bytes([0xFF, 0xD0 + number % 8]) for number in range(side // 16 - 1))
    return sized(strip[:start] + b"".join(rows) + row + b"\xff\xd9", side, side)


def in_two_scans(jpeg: bytes) -> bytes:
    """Return a JPEG whose first scan has one component only."""
    at = jpeg.index(b"\xff\xda")
    return jpeg[:at] + bytes([0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0]) + jpeg[at + 14 :]


def ico_around(png: bytes) -> bytes:
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 32, 32, 0, 0, 1, 32, len(png), 22) + png


REFUSED = {
    "png": lambda: png_of_size(40_000, 40_000),
    "png above the limit": lambda: png_of_size(13_500, 13_500),
    "one row": lambda: png_of_size(2**31 - 1, 1),
    "progressive jpeg": lambda: sized(saved(smooth(), "jpeg", progressive=True), 40_000, 40_000),
    "jpeg of two scans": lambda: in_two_scans(sized(saved(smooth(), "jpeg"), 40_000, 40_000)),
    "png in an ico": lambda: ico_around(png_of_size(16_000, 16_000)),
    "gif": lambda: saved(smooth(), "gif")[:6] + struct.pack("<HH", 60_000, 60_000) + saved(smooth(), "gif")[10:],
}

PEAK = """
import sys
from pathlib import Path
from src.datamodules.images.decoding import decode
peak = lambda: int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024  # not the parent's
start = peak()
try:
    print(decode(Path(sys.argv[1]), 32)[16, [2, 29], 0].tolist(), end=" ")
except Exception as error:
    print("refused:", str(error).replace(" ", "_"), end=" ")
print(round(peak() - start))
"""


def peak_of(path: Path) -> tuple[str, int]:
    """Return what decoding gives in a process of its own, and the MB that it takes at its peak."""
    done = subprocess.run([sys.executable, "-c", PEAK, path], cwd=ROOT, capture_output=True, text=True, check=True)
    found, _, peak = done.stdout.strip().rpartition(" ")
    return found, int(peak)


@pytest.mark.parametrize("kind", REFUSED)
def test_bombs_are_refused_in_little_memory(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(REFUSED[kind]())
    assert path.stat().st_size < 10_000
    found, peak = peak_of(path)
    assert found.startswith("refused:"), found
    assert peak < 60


def test_what_is_too_large_is_said_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "bomb.jpg"
    path.write_bytes(REFUSED["progressive jpeg"]())
    with pytest.raises(ValueError, match=r"40000 x 40000 pixels, more than 178 million .* save it smaller"):
        decode(path, SIDE)


def test_a_jpeg_of_1600_million_pixels_is_scaled_while_decoded(tmp_path: Path) -> None:
    """Measured: 2 s on one core, 97 MB; in full it would be 6.4 GB."""
    path = tmp_path / "survey.jpg"
    path.write_bytes(jpeg_of_size(40_000))
    found, peak = peak_of(path)
    dark, light = map(int, found.strip("[]").split(","))
    assert dark < 30
    assert light > 225
    assert peak < 300


@pytest.mark.slow
def test_the_largest_picture_that_is_decoded_in_full(tmp_path: Path) -> None:
    path = tmp_path / "map.png"
    path.write_bytes(png_bomb(13_000, 13_000))
    found, peak = peak_of(path)
    assert found == "[0, 0]"
    assert peak < 1100, "a byte a pixel, four more once it is coloured"


def test_large_pictures_are_decoded_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many threads there are."""
    inside: list[int] = []

    def watched(image: Image.Image, size: int) -> np.ndarray:
        inside.append(decoding._ONE_AT_A_TIME.locked())
        return np.zeros((size, size, 3), np.uint8)

    monkeypatch.setattr(decoding, "_fitted", watched)
    monkeypatch.setattr(decoding, "LARGE", 40 * 40)
    decoded(smooth(side=64), "png", tmp_path)
    decoded(smooth(side=32), "png", tmp_path)
    decoded(smooth(side=64), "jpeg", tmp_path, progressive=True)  # all its coefficients are held
    decoded(smooth(side=64), "jpeg", tmp_path)  # scaled to 32
    assert inside == [True, False, True, False]


def test_bombs_are_left_out_of_training_by_name(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "x", {name: 3 * count for name, count in COUNTS.items()})
    for number, make in enumerate(REFUSED.values()):
        (root / f"train/a/bomb{number}.png").write_bytes(make())
    data = ready(root, unreadable_limit=0.2)
    assert data.sizes() == {"train": 24, "val": 12}
    assert f"{len(REFUSED)} of {36 + len(REFUSED)} files" in data.notes[0]
    assert "train/a/bomb0.png (more than 178 million pixels" in data.notes[0]


# ------------------------------------------------------------------------------------------------------ kinds of pixels
def sixteen(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(np.uint16) * 257


def png_of_sixteen_bits(image: Image.Image) -> bytes:
    """Return an RGB PNG of 16 bits, which Pillow reads and does not write."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in sixteen(image))
    data = bytearray(saved(image, "png"))
    data[24] = 16
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    packed = b"IDAT" + zlib.compress(rows)
    chunk = struct.pack(">I", len(packed) - 4) + packed + struct.pack(">I", zlib.crc32(packed))
    return bytes(data[:33]) + chunk + saved(image, "png")[-12:]


GREY = smooth(3).convert("L")
EQUAL: dict[str, tuple[Callable[[], bytes], Image.Image]] = {
    "cmyk tiff": (lambda: saved(smooth(3).convert("CMYK"), "tiff"), smooth(3)),
    "rgb tiff": (lambda: saved(smooth(3), "tiff", compression="tiff_lzw"), smooth(3)),
    "16-bit rgb png": (lambda: png_of_sixteen_bits(smooth(3)), smooth(3)),
    "16-bit grey png": (lambda: saved(Image.fromarray(sixteen(GREY)), "png"), GREY),
    "16-bit grey tiff": (lambda: saved(Image.fromarray(sixteen(GREY)), "tiff"), GREY),
    "16-bit grey pgm": (lambda: saved(Image.fromarray(sixteen(GREY)), "ppm"), GREY),
    "32-bit grey tiff": (lambda: saved(Image.fromarray(sixteen(GREY).astype(np.int32)), "tiff"), GREY),
    "grey": (lambda: saved(GREY, "png"), GREY.convert("RGB")),
    "grey with alpha": (lambda: saved(GREY.convert("LA"), "png"), GREY),
    "1-bit png": (lambda: saved(GREY.convert("1"), "png"), GREY.convert("1").convert("RGB")),
    "1-bit tiff": (lambda: saved(GREY.convert("1"), "tiff", compression="group4"), GREY.convert("1").convert("RGB")),
    "palette": (lambda: saved(smooth(3).quantize(64), "png"), smooth(3).quantize(64).convert("RGB")),
    "alpha": (lambda: saved(smooth(3).convert("RGBA"), "png"), smooth(3)),
    "bmp": (lambda: saved(smooth(3), "bmp"), smooth(3)),
    "lossless webp": (lambda: saved(smooth(3), "webp", lossless=True), smooth(3)),
}


@pytest.mark.parametrize("kind", EQUAL)
def test_lossless_copies_are_equal_to_the_bit(kind: str, tmp_path: Path) -> None:
    make, plain = EQUAL[kind]
    path = tmp_path / "image"
    path.write_bytes(make())
    expected = decoded(plain, "png", tmp_path)
    assert expected.max() - expected.min() > 60, "the premise: there is something to see"
    assert np.array_equal(decode(path, SIDE), expected)


@pytest.mark.parametrize("mode", ["CMYK", "L"])
def test_jpegs_of_other_modes_are_near_the_plain_one(mode: str, tmp_path: Path) -> None:
    image = smooth(3).convert("L").convert("RGB") if mode == "L" else smooth(3)
    plain = decoded(image, "jpeg", tmp_path, quality=95)
    assert np.abs(decoded(image.convert(mode), "jpeg", tmp_path, quality=95) - plain).max() <= 6


def test_what_is_transparent_is_white_whatever_lies_below(tmp_path: Path) -> None:
    """In alpha, in a palette's transparent colour, and in a grey image's."""
    half = np.zeros((64, 64), np.uint8)
    half[:, 32:] = 255
    alpha = Image.fromarray(half)
    images = []
    for below in ("black", "green"):
        image = Image.new("RGB", (64, 64), below)
        image.paste((200, 30, 30), (32, 0, 64, 64))
        image.putalpha(alpha)
        images.append(decoded(image, "png", tmp_path))
        images.append(decoded(image, "tiff", tmp_path))
    palette = Image.fromarray(half // 255).convert("P")
    palette.putpalette([7, 7, 7, 200, 30, 30])
    images.append(decoded(palette, "png", tmp_path, transparency=0))
    images.append(decoded(palette, "gif", tmp_path, transparency=0))
    for found in images:
        assert np.array_equal(found[5, 2], [255, 255, 255])
        assert np.array_equal(found[5, 29], [200, 30, 30])
    grey = decoded(Image.fromarray(half), "png", tmp_path, transparency=0)
    assert grey.min() == 255


def test_floating_point_pixels_are_refused_and_not_made_black(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"floating-point .* save it with 8 or 16 bits"):
        decoded(Image.fromarray(np.asarray(GREY).astype(np.float32) / 255), "tiff", tmp_path)


@pytest.mark.parametrize("tag", STORED)
@pytest.mark.parametrize("kind", ["png", "tiff", "webp", "jpeg"])
def test_all_orientations_of_a_camera(tag: int, kind: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = tag
    upright = stored = smooth(7).crop((0, 0, 64, 48))
    if (how := STORED[tag]) is not None:
        stored = stored.transpose(how)
    more = {"lossless": True} if kind == "webp" else {"quality": 95} if kind == "jpeg" else {}
    difference = decoded(stored, kind, tmp_path, exif=exif, **more) - decoded(upright, "png", tmp_path)
    assert np.abs(difference).max() <= (8 if kind == "jpeg" else 0)


@pytest.mark.parametrize("kind", ["gif", "webp", "png", "tiff"])
def test_the_first_picture_of_a_moving_one(kind: str, tmp_path: Path) -> None:
    red, blue = (Image.new("RGB", (64, 64), colour) for colour in ("red", "blue"))
    found = decoded(red, kind, tmp_path, save_all=True, append_images=[blue, blue])
    assert np.array_equal(found[5, 5], [255, 0, 0]) or kind == "webp"
    assert found[..., 0].min() > 240
    assert found[..., 2].max() < 20


def test_damaged_pictures_of_every_format_are_unreadable_and_nothing_worse(tmp_path: Path) -> None:
    """2 000 images with changed bytes: Pillow raises half a dozen kinds of errors."""
    rng = np.random.default_rng(0)
    kinds = ("png", "jpeg", "gif", "tiff", "bmp", "webp", "ico", "jpeg2000", "avif", "tga")
    whole = [saved(smooth(1, side=32), kind) for kind in kinds]
    root = tmp_path / "damaged"
    root.mkdir()
    files = [root / f"{number}" for number in range(2000)]
    for number, file in enumerate(files):
        data = bytearray(whole[number % len(whole)])
        for at in (len(data) * rng.random(3) ** 4).astype(int):
            data[at] = rng.integers(256)
        file.write_bytes(data)
    found = decode_all(files, SIDE)
    assert 200 < len(found.unreadable) < 1900
    assert all(why for why in found.unreadable.values())


# ------------------------------------------------------------------------------------------------------- names of files
NAMES = (
    "UPPER.JPG",
    "no suffix",
    "wrong.txt",
    "猫 кошка قطة 🐈.png",
    "e\u0301 decomposed.png",
    "with 'quotes' and \"more\".png",
    "line\nbreak.png",
    "-rf.png",
    "--data-dir.png",
    "$(touch x);`y`.png",
    "a" * 246 + ".png",
    "cut\\n.png",
    "*.png",
)


def test_files_of_any_name(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "x", COUNTS)
    for number, name in enumerate((*NAMES, BYTES)):
        (root / "val/a" / name).write_bytes(saved(smooth(20 + number), "png"))
    data = ready(root)
    assert data.notes == []
    expected = {f"val/a/{name}" for name in NAMES} | {"val/a/caf\\xe9.png", "val/a/00.png", "val/a/01.png"}
    assert {name for name in data.ids("val") if "/a/" in name} == expected
    assert len(data.fingerprint) == 16
    for name in data.ids("val"):
        name.encode()  # can be printed and written
    files = [root / "val/a" / name for name in (*NAMES, BYTES)]
    assert len(data.prepare_prediction(files, data.spec)) == len(files)
    (batch,) = list(ready(root, batch_size=64, image_size=8).val_dataloader())
    assert len(batch["index"]) == len(files) + 4


def test_what_a_file_is_called_does_not_matter_and_what_is_in_it_does(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "x", COUNTS)
    (root / "val/a/really a png.jpg").write_bytes(saved(smooth(30), "png"))
    (root / "val/a/text.jpg").write_text("no image")
    (root / "val/a/zero.jpg").touch()
    data = ready(root, unreadable_limit=0.2)
    assert "val/a/really a png.jpg" in data.ids("val")
    assert "2 of 15 files" in data.notes[0]
    assert "text.jpg (not an image)" in data.notes[0]
    assert "zero.jpg (not an image)" in data.notes[0]


def test_what_systems_leave_in_folders_is_passed_over(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "x", COUNTS)
    for name in (".DS_Store", "._00.png", ".directory", "Thumbs.db", "desktop.ini", "Icon\r"):
        (root / "val/a" / name).write_bytes(b"\0\5\x16\7junk")
    for folder in ("__MACOSX", "val/a/@eaDir", "val/.ipynb_checkpoints", "train/#recycle", "val/a/.thumbnails"):
        (root / folder).mkdir()
        (root / folder / "00.png").write_bytes(saved(smooth(1), "png"))
    (root / "train/thumbs.DB").touch()
    data = ready(root)
    assert data.sizes() == {"train": 8, "val": 4}
    folders, files = (
        "#recycle, .ipynb_checkpoints, @eaDir, __MACOSX",
        ".DS_Store, ._00.png, .directory, Icon, Thumbs.db",
    )
    rest = f"7 files that systems leave ({files} and 2 more), 1 hidden folder (.thumbnails)"
    assert data.notes == [f"passed over: 4 folders that systems leave ({folders}), {rest}"]
    data.prepare_prediction([root / "val/a/@eaDir/..", root / "train"], data.spec)
    assert data.notes[1:] == [f"passed over: 2 folders that systems leave (#recycle, @eaDir), {rest}"]


# --------------------------------------------------------------------------------------------- links, pipes, no folders
def test_links_are_followed_once_and_what_never_ends_is_not_read(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "x", {name: 3 * count for name, count in COUNTS.items()})
    elsewhere = folder_of(tmp_path / "elsewhere", {"deep/er": 3})
    inside = root / "train/a"
    (inside / "album").symlink_to(elsewhere)
    (inside / "up").symlink_to(root / "train/a")
    (inside / "loop").symlink_to(inside / "loop")
    (inside / "nowhere.png").symlink_to(tmp_path / "gone.png")
    (inside / "endless.png").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    (inside / "pipe.png").symlink_to(tmp_path / "pipe")
    os.mkfifo(inside / "a pipe")
    write(tmp_path / "one.png", 99)
    (inside / "one.png").symlink_to(tmp_path / "one.png")
    data = ready(root, unreadable_limit=0.2)
    assert data.sizes() == {"train": 24 + 3 + 1, "val": 12}
    assert {name for name in data.ids("train") if "album" in name} == {
        f"train/a/album/deep/er/0{i}.png" for i in range(3)
    }
    assert "4 of 44 files" in data.notes[0]
    for said in ("loop (", "nowhere.png (No such file", "endless.png (not a regular file)", "pipe.png (not a regular"):
        assert said in data.notes[0]


def test_a_class_that_is_a_link(tmp_path: Path) -> None:
    plain = ready(folder_of(tmp_path / "plain", COUNTS))
    linked = tmp_path / "linked"
    for name in COUNTS:
        (linked / name).parent.mkdir(parents=True, exist_ok=True)
        (linked / name).symlink_to(tmp_path / "plain" / name)
    assert ready(linked).fingerprint == plain.fingerprint


# --------------------------------------------------------------------------------------------- a folder that is changed
def test_a_file_that_vanishes_while_the_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder_of(tmp_path / "x", COUNTS)
    there, real = root / "train/a/00.png", decode_all
    content = there.read_bytes()

    def late(files: list[Path], *args: Any, **kwargs: Any) -> Any:
        there.unlink()
        return real(files, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr("src.datamodules.images.image_files.decode_all", late)
        data = ready(root, unreadable_limit=0.1)
    assert "train/a/00.png (No such file or directory)" in data.notes[0]
    assert data.sizes()["train"] == 7
    there.write_bytes(content)
    assert ready(root).sizes()["train"] == 8, "it is there again"


def test_a_folder_that_vanishes_while_the_one_above_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder_of(tmp_path / "x", COUNTS | {"train/a/more": 3})
    listed, real = list[str](), os.scandir

    def late(folder: Any) -> Any:
        if isinstance(folder, Path) and folder.name == "more":
            folder.rename(tmp_path / "away")
            listed.append(folder.name)
        return real(folder)

    monkeypatch.setattr(listing.os, "scandir", late)
    assert ready(root).sizes()["train"] == 8
    assert "more" in listed, "the premise"


def test_a_file_that_could_not_be_read_for_a_moment_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a network disk, or before a chmod: neither its size nor its time has changed since."""
    root = folder_of(tmp_path / "x", COUNTS)
    from src.datamodules.images import decoded

    def away(path: Path) -> Any:
        if path.name == "00.png":
            raise PermissionError(13, "Permission denied")
        return decoding.open_regular(path)

    with monkeypatch.context() as patch:
        patch.setattr(decoded, "open_regular", away)
        assert "train/a/00.png (Permission denied)" in ready(root, unreadable_limit=0.5).notes[0]
    assert ready(root).notes == []


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), MemoryError()], ids=["disk", "memory"])
def test_a_read_that_failed_halfway_is_tried_again(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from src.datamodules.images import decoded

    root = folder_of(tmp_path / "x", COUNTS)

    def failing(file: Any, size: int) -> Any:
        if file.name.endswith("train/a/00.png"):
            raise error
        return decode(file, size)

    with monkeypatch.context() as patch:
        patch.setattr(decoded, "decode", failing)
        assert "train/a/00.png" in ready(root, unreadable_limit=0.5).notes[0]
    assert ready(root).notes == []


def test_threads_are_not_those_of_the_process_forked_from() -> None:
    threads(2).submit(int).result()
    child = os.fork()
    if not child:
        os._exit(threads(2).submit(int, "3").result(timeout=5))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3


@pytest.mark.parametrize("size", [0, -4])
def test_a_picture_has_a_size(size: int) -> None:
    with pytest.raises(InputError, match=f"--image-size {size}"):
        ImageFolder(Path(), image_size=size)


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_text("no image")])
def test_a_file_that_changes_within_a_run_without_cache(tmp_path: Path, change: Callable[[Path], object]) -> None:
    root = folder_of(tmp_path / "x", COUNTS)
    data = ready(root, cache=False)
    change(root / "val/a/00.png")
    with pytest.raises(InputError, match=r"val/a/00\.png: readable when the run began"):
        next(iter(data.val_dataloader()))
    cached = ready(folder_of(tmp_path / "y", COUNTS))
    change(tmp_path / "y/val/a/00.png")
    assert len(next(iter(cached.val_dataloader()))["index"]) == 4


# -------------------------------------------------------------------------------------------------------- a great many
def many(root: Path, count: int) -> Path:
    """Make a folder of so many names of a few files."""
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
    source = root
    source = root
    for number in range(count):
        if number % 20_000 == 0:  # file systems limit the names of one file
            source = write(root.parent / f"{number}.png", number)
        os.link(source, root / "ab"[number % 2] / f"{number:06}.png")
    return root


LISTED = """
import sys, time
from pathlib import Path
from src.datamodules.images.listing import files_below
from src.datamodules.passed_over import PassedOver
peak = lambda: int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024  # not the parent's
start, then = peak(), time.process_time()
found = files_below(Path(sys.argv[1]), PassedOver())
print(len(found), round(peak() - start), round(time.process_time() - then, 1))
"""


def listed(root: Path) -> list[float]:
    """Return files, MB and seconds of processor time, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", LISTED, root], cwd=ROOT, capture_output=True, text=True, check=True)
    return [float(part) for part in done.stdout.split()]


def test_a_folder_is_listed_without_looking_at_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """5 000 files, in order; a look at each took most of the time."""
    root = many(tmp_path / "many", 5000)
    expected = sorted(path for path in root.rglob("*") if path.is_file())
    looks = []
    real = Path.stat
    monkeypatch.setattr(Path, "stat", lambda path, **how: looks.append(path) or real(path, **how))
    assert [*listing.files_below(root, PassedOver())] == expected
    assert len(looks) <= 3


def test_jobs_are_handed_out_by_and_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from src.datamodules.images import decoded

    files = [write(tmp_path / f"{number}.png", number) for number in range(10)]
    whole = decode_all(files, SIDE)
    monkeypatch.setattr(decoded, "CHUNK", 3)
    again = decode_all([*files, files[0]], SIDE)
    assert again.digests.tolist() == [*whole.digests, whole.digests[0]]
    assert whole.pixels is not None
    assert again.pixels is not None
    assert np.array_equal(np.load(again.pixels)[:10], np.load(whole.pixels))


@pytest.mark.slow
def test_200_000_files_in_a_folder(tmp_path: Path) -> None:
    """Measured on one busy core: 3 s of processor time and 85 MB for the list."""
    root = many(tmp_path / "many", 200_000)
    count, megabytes, seconds = listed(root)
    assert count == 200_000
    assert megabytes < 250
    assert seconds < 20
    data = ready(root, image_size=8)
    assert sum(data.sizes().values()) == 200_000
    assert torch.equal(data.targets("val").bincount(), torch.tensor([15_000, 15_000]))
