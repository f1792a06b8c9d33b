"""Runs on hard images, with caches that cannot be written, and of run directories made by other code."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Script, own_home
from kills import in_process
from odd_images import BYTES, STORED, png_of_size
from PIL import Image
from test_faults import without_root

from experiments.images import Images
from experiments.tables import TableLinear
from scripts.predict import main
from src import cli
from src.cli.parser import PredictFlags
from src.datamodules import Fold, ImageFolder
from src.datamodules.quarantine import Entry, write
from src.experiment import DataSpec, InputError
from src.inference.batch import predict
from src.resources.cache import cache_dir
from src.resources.files import ROOT, write_json
from src.runs import records
from src.runs.compare import runs as compared
from src.runs.predictions import predictions_csv
from src.tasks import SingleLabel
from src.training import build, runner
from src.training.features import cache_features
from src.training.options import RunOptions
from src.training.trainer import build_trainer

pytestmark = pytest.mark.usefixtures("quiet")


def small(data: Path, **more: Any) -> Images:
    return Images(
        data_dir=data,
        weights="none",
        backbone="test_resnet",
        image_size=32,
        batch_size=4,
        max_epochs=1,
        num_workers=0,
        accelerator="cpu",
        **more,
    )


@pytest.fixture(scope="module")
def trained(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run; not to be changed."""
    home = tmp_path_factory.mktemp("trained")
    with own_home(home):
        return runner.run(small(images))


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


# ---------------------------------------------------------------------------------------------------------- predictions
def copies_of(image: Image.Image, folder: Path) -> None:
    """Write one image in many ways, lossless ones named `same...` and JPEGs `near...`."""
    folder.mkdir()
    image.save(folder / "plain.png")
    image.convert("CMYK").save(folder / "same cmyk.tif")
    image.convert("CMYK").save(folder / "near cmyk.jpg", quality=98, subsampling=0)
    for tag, how in STORED.items():
        exif = Image.Exif()
        exif[0x0112] = tag
        for name in ("same {}.png", "same {}.tif", "near {}.jpg"):
            turned = image if how is None else image.transpose(how)
            turned.save(folder / name.format(tag), exif=exif, quality=98)


def test_rotated_and_cmyk_copies_are_predicted_as_the_plain_picture(
    trained: Path, images: Path, tmp_path: Path
) -> None:
    """Lossless copies to the last digit, JPEGs to 0.01 of probability."""
    with Image.open(images / "val/cat/0000.jpg") as image:
        copies_of(image.convert("RGB"), tmp_path / "copies")
    text, failed, _ = predict(trained, [tmp_path / "copies"])
    found = {Path(row["id"]).name: row for row in rows(text)}
    assert (len(found), failed) == (1 + 2 + 3 * 8, 0)
    plain = found["plain.png"]
    for name, row in found.items():
        if name.startswith("same"):
            assert row["prob_cat"] == plain["prob_cat"], name
        assert float(row["prob_cat"]) == pytest.approx(float(plain["prob_cat"]), abs=0.01), name


def test_bombs_and_names_of_any_bytes_are_rows(trained: Path, images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    image = (images / "val/cat/0000.jpg").read_bytes()
    names = [BYTES, "a\nb.JPG", "-x.jpg", "猫.jpg"]
    for name in names:
        (folder / name).write_bytes(image)
    (folder / "bomb.png").write_bytes(png_of_size(40_000, 40_000))
    out = tmp_path / "out.csv"
    assert main(PredictFlags(run=trained, inputs=(folder,), out=out)) == 0
    found = {Path(row["id"]).name: row for row in rows(out.read_text(encoding="utf-8"))}
    assert found.keys() == {"caf\\xe9.png", *names[1:], "bomb.png"}
    assert "178 million pixels" in found.pop("bomb.png")["error"]
    assert {(row["label"], row["error"]) for row in found.values()} == {(found["-x.jpg"]["label"], "")}


def test_an_input_that_is_a_link_to_nothing_or_has_too_long_a_name(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "link.jpg").symlink_to(tmp_path / "gone.jpg")
    for path in (tmp_path / "link.jpg", tmp_path / ("x" * 300)):
        with pytest.raises(InputError, match="no such file or folder"):
            predict(trained, [path])


# ------------------------------------------------------------------------------------------------------------- training
def test_a_run_on_names_that_are_no_text(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder, a class and a file have bytes that are not UTF-8: everything written is, and can be read again."""
    data = Path(shutil.copytree(images, os.fsdecode(os.fsencode(tmp_path) + b"/dat\xe9")))
    for split in ("train", "val", "test"):
        (data / split / "cat").rename(data / split / os.fsdecode(b"ch\xe2t"))
    (data / "val/dog/0000.jpg").rename(data / "val/dog" / os.fsdecode(b"\xff\n.jpg"))
    run = runner.run(small(data))
    record = records.load(run)
    assert record["state"] == "done"
    assert record["spec"]["classes"] == ["ch\\xe2t", "dog"]
    assert record["data"]["source"] == f"folder {tmp_path}/dat\\xe9"
    assert cli.parse(["--resume", str(run)]).experiments[0].data_dir == data
    ids = [row["id"] for row in rows((run / "predictions_val.csv").read_bytes().decode())]
    assert "val/dog/\\xff\n.jpg" in ids
    assert "ch\\xe2t" in capsys.readouterr().out
    for path in run.rglob("*.json"):
        path.read_bytes().decode()
    assert compared.read(run).state == "done"


def test_classes_of_any_script(images: Path, tmp_path: Path) -> None:
    """Dollars enclose mathematics for matplotlib, whose font has neither the cat's sign nor its image."""
    data, names = shutil.copytree(images, tmp_path / "data"), ("$x_{1$", "猫 قطة 🐈")
    for split in ("train", "val", "test"):
        for old, new in zip(("cat", "dog"), names, strict=True):
            (data / split / old).rename(data / split / new)
    run = runner.run(small(data), RunOptions(test=True))
    assert records.load(run)["spec"]["classes"] == [*names]
    found = rows(predict(run, [data / "val"]).text)
    assert {row["label"] for row in found} <= {*names}
    assert {f"prob_{name}" for name in names} < found[0].keys()


def test_every_script_works_where_the_locale_knows_ascii_alone(images: Path, tmp_path: Path, script: Script) -> None:
    """Containers and clusters are often so; Python is told not to mend it by itself."""
    data = shutil.copytree(images, tmp_path / "tiere")
    for split in ("train", "val", "test"):
        (data / split / "cat").rename(data / split / "kätzchen")
        (data / split / "kätzchen/0000.jpg").rename(data / split / "kätzchen/größte.jpg")
    ascii_alone = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"} | {"LEYDEN_RUNS": str(tmp_path)}
    experiment = ("experiments/cats_dogs_finetune.py:CatsDogsScratch", "--data-dir", data, "--image-size", "16")

    def prints(name: str, *args: str | Path) -> str:
        done = script(name, *args, **ascii_alone)
        assert (done.returncode, "Error" in done.stderr) == (0, False), done.stderr
        return done.stdout

    assert r"k\xe4tzchen 12" in prints("run.py", *experiment, "--max-epochs", "1", "--test")
    (run,) = (tmp_path / "CatsDogsScratch").iterdir()
    assert records.load(run)["spec"]["classes"] == ["dog", "kätzchen"]
    found = rows(prints("predict.py", run, data / "val"))
    assert f"{data}/val/kätzchen/größte.jpg" in {row["id"] for row in found}, "CSV is UTF-8 wherever it goes"
    assert "prob_kätzchen" in found[0]
    assert "1 done" in prints("compare.py", tmp_path, "--html", tmp_path / "page.html")
    assert "kätzchen" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert r"k\xe4tzchen" in prints("check_data.py", *experiment)


def test_images_that_a_table_names_open_where_the_locale_knows_ascii_alone(tmp_path: Path) -> None:
    (tmp_path / "größte.png").write_bytes(png_of_size(8, 8))
    (tmp_path / "photos.csv").write_text("path\ngrößte.png\n", encoding="utf-8")
    code = (
        "import sys; from pathlib import Path; from src.datamodules.images.path_table import read_path_table;"
        "from src.resources.files import printable; from src.experiment import Csv;"
        "(file,) = read_path_table(Path(sys.argv[1]), 'path', Csv(), []).files;"
        "file.open('rb').close(); print(ascii(printable(file.name)))"
    )
    environment = os.environ | {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    words = [sys.executable, "-c", code, tmp_path / "photos.csv"]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, check=True)
    assert done.stdout.split() == [b"'gr\\xf6\\xdfte.png'"]


def test_kept_features_that_cannot_be_written_are_said_and_used(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache_dir().mkdir(parents=True)
    (cache_dir() / "features").write_text("no folder")
    run = runner.run(small(images))
    assert records.load(run)["state"] == "done"
    assert f"CACHE      {cache_dir()}/features cannot be written" in capsys.readouterr().out


def flipped(data: bytes) -> bytes:
    return data[:-2000] + bytes([data[-2000] ^ 1]) + data[-1999:]


def saved_array(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(bytes(path.stat().st_size)),
        lambda path: path.write_bytes(flipped(path.read_bytes())),
        lambda path: path.write_bytes(path.read_bytes().replace(b"PK\x01\x02", b"PK\x01\x02\xff\xff\xff\xff")),
        lambda path: path.write_bytes(saved_array(np.load(path)["features"])),
        lambda path: np.savez(path, other=np.load(path)["features"], ids=np.load(path)["ids"]),
        lambda path: np.savez(path, features=np.load(path)["features"][1:], ids=np.load(path)["ids"]),
        lambda path: np.savez(path, features=np.load(path)["features"][:, 1:], ids=np.load(path)["ids"]),
        lambda path: np.savez(path, features=np.load(path)["features"] + 1, ids=np.load(path)["ids"]),
        lambda path: np.savez(path, features=np.load(path)["features"], ids=np.load(path)["ids"][::-1]),
    ],
    ids=[
        "cut off",
        "empty",
        "zeros",
        "one bit",
        "no such method",
        "no archive",
        "no name",
        "fewer rows",
        "fewer columns",
        "other code",
        "other order",
    ],
)
def test_damaged_kept_features_are_computed_again(images: Path, harm: Callable[[Path], object]) -> None:
    asked = small(images).resolve()
    datamodule, task = build.build_parts(asked)
    trainer = build_trainer(asked, [], logger=False)
    first = cache_features(task, datamodule, trainer)
    files = list((cache_dir() / "features").glob("*.npz"))
    whole = [np.load(path)["features"] for path in files]
    for path in files:
        harm(path)
    again = cache_features(task, datamodule, trainer)
    assert all(torch.equal(again[split]["features"], first[split]["features"]) for split in ("train", "val"))
    assert all(np.array_equal(np.load(path)["features"], one) for path, one in zip(files, whole, strict=True))


def test_folds_share_their_features(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was computed for one fold is not computed for the next; each example keeps its own."""
    asked = replace(small(images), batch_size=4).resolve()
    trainer = build_trainer(asked, [], logger=False)

    def of_fold(number: int) -> tuple[int, list[torch.Tensor]]:
        datamodule, task = build.build_parts(asked, Fold(number, 3))
        seen, compute = 0, task.features

        def counted(batch: Any) -> torch.Tensor:
            nonlocal seen
            seen += len(batch["target"])
            return compute(batch)

        monkeypatch.setattr(task, "features", counted)
        cached = cache_features(task, datamodule, trainer, ("train", "val", "test"))
        assert sum(datamodule.sizes().values()) > 3 * asked.batch_size
        return seen, [cached[split]["features"] for split in cached]

    first, _ = of_fold(1)
    second, shared = of_fold(2)
    assert second == 3 * asked.batch_size < first, "a batch of each split, to see that the features still hold"
    monkeypatch.setenv("LEYDEN_CACHE", str(tmp_path / "other"))
    again, alone = of_fold(2)
    assert again == first
    assert all(torch.allclose(one, other, rtol=1e-4, atol=1e-5) for one, other in zip(shared, alone, strict=True))


@pytest.mark.parametrize("end", ["", "/sub/folder.csv"])
def test_predictions_that_cannot_be_written_are_not_lost(
    trained: Path, images: Path, tmp_path: Path, end: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    if not end:
        with pytest.raises(InputError, match=rf"--out {tmp_path}: a folder"):
            main(PredictFlags(trained, (images / "val",), out=tmp_path))
        return
    with pytest.raises(InputError, match=rf"--out {tmp_path}/file{end}: cannot be written .*standard output"):
        main(PredictFlags(trained, (images / "val",), out=Path(f"{tmp_path}/file{end}")))
    assert len(rows(capsys.readouterr().out)) == len(list((images / "val").rglob("*.*")))


def test_broken_files_of_a_list_do_not_count(images: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(images, tmp_path / "data"))
    broken = sorted((data / "train").rglob("*.*"))[:6]
    for file in broken:
        file.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"6 of .* files do not open"):
        runner.run(small(data))
    write(tmp_path / "list.csv", [Entry(str(file.relative_to(data)), "train", "broken") for file in broken])
    notes = records.load(runner.run(small(data, quarantine=tmp_path / "list.csv")))["data"]["notes"]
    assert not any("do not open" in note for note in notes)


@pytest.mark.parametrize("name", [b"caf\xe9.csv", b"caf\xe9.parquet"])
def test_tables_of_names_that_are_no_text(
    houses: Path, tmp_path: Path, name: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    table = pd.read_csv(houses)
    path.write_bytes(table.to_csv(index=False).encode() if path.suffix == ".csv" else table.to_parquet())
    run = runner.run(TableLinear(data_dir=path, target="price", max_epochs=1, batch_size=16, accelerator="cpu"))
    assert records.load(run)["state"] == "done"
    assert f"file {tmp_path}/caf\\xe9" in capsys.readouterr().out


def test_texts_of_a_name_that_is_no_text(texts: Path, tmp_path: Path, script: Script) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.csv"))
    shutil.copy(texts, path)
    flags = ("--max-epochs", "1", "--vocabulary.width", "8", "--lstm.hidden", "4")
    done = script("run.py", "experiments/texts.py", "--data-dir", path, *flags)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"file {tmp_path}/caf\\xe9.csv" in done.stdout


def test_a_class_folder_that_may_not_be_read_is_named(images: Path, tmp_path: Path) -> None:
    data = shutil.copytree(images, tmp_path / "data")
    (data / "train/cat").chmod(0)
    assert in_process(train_unread, data, "train/cat: the folder cannot be read (Permission denied)") == 0
    (data / "train/cat").chmod(0o700)


def test_a_picture_that_may_not_be_read_is_left_out_until_it_may(images: Path, tmp_path: Path) -> None:
    data = shutil.copytree(images, tmp_path / "data")
    (data / "train/cat/0000.jpg").chmod(0)
    assert in_process(set_up_unread, data, "train/cat/0000.jpg (Permission denied)") == 0
    (data / "train/cat/0000.jpg").chmod(0o600)
    assert in_process(set_up_unread, data, "") == 0


def train_unread(data: Path, said: str) -> int:
    without_root()
    with pytest.raises(InputError) as error:
        runner.run(small(data))
    assert said in str(error.value)
    return 0


def set_up_unread(data: Path, said: str) -> int:
    without_root()
    notes = " ".join(ready(data).notes)
    assert said in notes if said else not notes
    return 0


# --------------------------------------------------------------------------------------------- the cache of images
def ready(data: Path) -> ImageFolder:
    found = ImageFolder(data, image_size=32, batch_size=4, num_workers=0)
    found.setup("fit")
    return found


def first_images(data: ImageFolder) -> np.ndarray:
    return next(iter(data.val_dataloader()))["image"].numpy()


def cached() -> list[Path]:
    """What is in the cache besides locks."""
    return [path for path in cache_dir().rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.mark.parametrize("full", ["at once", "once the images are written"])
def test_a_disk_too_full_for_the_cache(
    images: Path,
    small_disk: Callable[[int], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    full: str,
) -> None:
    """The run goes on without it and says so; a half-written map, full later, would have killed the process."""
    whole = first_images(ready(images))
    monkeypatch.setenv("LEYDEN_CACHE", str(small_disk(100_000 if full == "at once" else 167_936)))
    plenty = shutil.disk_usage("/")
    monkeypatch.setattr(
        "src.datamodules.images.decoded.shutil.disk_usage", lambda path: plenty
    )  # another takes it meanwhile
    capsys.readouterr()
    data = ready(images)
    out = capsys.readouterr().out
    assert "CACHE" in out
    assert "cannot be written (No space left on device)" in out
    assert "LEYDEN_CACHE" in out
    assert np.array_equal(first_images(data), whole)
    assert cached() == []


def test_a_disk_with_little_room_says_that_pictures_are_decoded_each_time(
    images: Path,
    small_disk: Callable[[int], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LEYDEN_CACHE", str(small_disk(300_000)))
    ready(images)
    assert "each time they are needed: 0 MB are too much for" in capsys.readouterr().out
    assert [path.name for path in cached()] == ["index.json"]


def without_the_right_to_write(images: Path, expected: np.ndarray, said: str) -> int:
    without_root()
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        data = ready(images)
    assert np.array_equal(first_images(data), expected)
    assert said in out.getvalue() if said else not out.getvalue()
    return 0


@pytest.mark.parametrize("filled", [False, True], ids=["empty", "filled"])
def test_a_cache_for_reading_only(images: Path, filled: bool) -> None:
    """A filled one, of an administrator say, is used; beside an empty one the run goes on without."""
    data = ready(images)
    whole = first_images(data)
    folder = cache_dir() / "images"
    if not filled:
        shutil.rmtree(folder)
        folder.mkdir()
    before = cached()
    for path in (*folder.glob("*.lock"), *cached()):
        path.chmod(0o400)
    folder.chmod(0o500)
    said = "" if filled else "cannot be written (Permission denied)"
    assert in_process(without_the_right_to_write, images, whole, said) == 0
    folder.chmod(0o700)
    assert cached() == before


@pytest.mark.parametrize("damage", ["cut", "other shape", "other type", "fewer digests"])
def test_a_damaged_cache_is_made_again(images: Path, damage: str) -> None:
    whole = first_images(ready(images))
    (path,) = cache_dir().rglob("pixels.npy")
    pixels = np.load(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    elif damage == "other shape":
        np.save(path, pixels[:, :20, :20])
    elif damage == "other type":
        np.save(path, pixels.astype(np.float32))
    else:
        index = path.parent / "index.json"
        write_json(index, {"kept": True, "digests": [], "unreadable": {}, "unread": []})
    assert np.array_equal(first_images(ready(images)), whole)
    assert np.array_equal(np.load(path), pixels)


# --------------------------------------------------------------------------------------------------- runs of other code
def gone(record: dict[str, Any]) -> None:
    record["experiment"] = "experiments.images.Vanished"


def gone_file(record: dict[str, Any]) -> None:
    record["experiment"] = "experiments.vanished.Vanished"


def field_of_a_later_version(record: dict[str, Any]) -> None:
    record["fields"]["sharpness"] = 3


def nested_field_of_a_later_version(record: dict[str, Any]) -> None:
    record["fields"]["optim"]["sharpness"] = 3


def field_of_another_shape(record: dict[str, Any]) -> None:
    record["fields"]["optim"] = 0.001


def no_fields(record: dict[str, Any]) -> None:
    record["fields"] = ["lr"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (gone, "no experiment Vanished"),
        (gone_file, "experiments.vanished.Vanished"),
        (field_of_a_later_version, "no field sharpness"),
        (nested_field_of_a_later_version, "no field sharpness"),
        (field_of_another_shape, "damaged record"),
        (no_fields, "damaged record"),
    ],
)
def test_a_run_of_other_code(
    trained: Path, images: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    """Predicting with it and resuming it name the run, what is wrong and the commit that made it; comparing goes on."""
    run = shutil.copytree(trained, tmp_path / "runs" / "Images" / "other")
    record = records.load(run) | {"git": {"commit": "0123456789abcdef", "dirty": False}}
    change(record)
    write_json(run / "run.json", record)

    for use in (lambda: predict(run, [images / "val"]), lambda: cli.parse(["--resume", str(run)])):
        with pytest.raises(InputError) as error:
            use()
        for words in (str(run / "run.json"), said, "git checkout 0123456789ab"):
            assert words in str(error.value)
    if change is no_fields:
        with pytest.raises(InputError, match=r"damaged record \(fields\)"):
            compared.read(run)
    else:
        assert compared.find([run])[0][0].metrics == compared.read(trained).metrics


def test_what_a_later_version_adds_to_a_record_is_no_matter(trained: Path, images: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "other")
    write_json(run / "run.json", records.load(run) | {"carbon": 3, "notes": ["x"]})
    assert predict(run, [images / "val"]) == predict(trained, [images / "val"])
    assert cli.parse(["--resume", str(run)]).experiments == cli.parse(["--resume", str(trained)]).experiments
    assert compared.read(run).metrics == compared.read(trained).metrics


def test_a_record_without_its_spec(trained: Path, images: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "other")
    record = records.load(run)
    del record["spec"]
    write_json(run / "run.json", record)
    with pytest.raises(InputError, match=r"run\.json: damaged record \(KeyError: 'spec'\)"):
        predict(run, [images / "val"])


def test_csv_of_predictions_is_always_text() -> None:
    small = np.float32(1e-12)
    objective = SingleLabel(DataSpec(classes=("x", "y")))
    shown = objective.columns({"prob": np.array([[1, small], [0, 1]], np.float32)})
    text = predictions_csv(["a\nb", 'c"d\r'], shown, errors=["", "e"])
    assert [row["id"] for row in rows(text)] == ["a\nb", 'c"d\\r']
    assert np.float32(rows(text)[0]["prob_y"]) == small, "an ensemble's temperature is fitted to it"
