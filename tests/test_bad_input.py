"""Bad input: a message that names the file, flag or field and the way out, an exit code, no traceback, nothing lost."""

from __future__ import annotations

import re
import shutil
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from experiments.cats_dogs_finetune import CatsDogsScratch
from scripts.run import main
from src import cli
from src.experiment import InputError
from src.resources.files import write_json
from src.runs import records

ROOT = Path(__file__).resolve().parents[1]
IMAGES, CATS = "experiments/images.py", "experiments/cats_dogs_finetune.py"
SCRATCH, TEXTBOOK = f"{CATS}:CatsDogsScratch", f"{CATS}:CatsDogsTextbook"
TINY = ("--image-size", "32", "--batch-size", "4", "--max-epochs", "1")


@dataclass(frozen=True)
class Outcome:
    exit_code: int
    out: str
    err: str


RunPy = Callable[..., Outcome]


@pytest.fixture
def run_py(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunPy:
    """Call scripts/run.py's `main` with these arguments; imports are paid for once."""

    def call(*args: str | Path) -> Outcome:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["scripts/run.py", *map(str, args)])
        try:
            code = cli.exit_code(main)
        except SystemExit as stop:  # tyro's
            code = int(stop.code or 0)
        shown = capsys.readouterr()
        return Outcome(code, shown.out, shown.err)

    return call


@pytest.fixture
def in_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths of experiments are relative to the checkout."""
    monkeypatch.chdir(ROOT)


pytestmark = pytest.mark.usefixtures("in_root")


def refused(outcome: Outcome, *said: str) -> None:
    assert outcome.exit_code not in (0, None)
    assert "Traceback" not in outcome.err
    plain = re.sub(r"[│╭╮╰╯─\s]+", " ", outcome.err)  # tyro draws a box and wraps lines
    for words in said:
        assert words in plain, outcome.err


def failed_run(*said: str) -> None:
    """The one run there is has failed, and its record says why."""
    (path,) = records.runs_dir().glob("*/*/run.json")
    record = records.load(path.parent)
    assert record["state"] == "failed"
    for words in said:
        assert words in record["reason"]


# ---------------------------------------------------------------------------------------------------- the command line
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((IMAGES, "--max-epcohs", "3"), ("--max-epcohs", "--max-epochs")),
        ((IMAGES, "--optim.rl", "3"), ("--optim.rl", "--optim.lr")),
        ((IMAGES, "--max-epochs", "three"), ("--max-epochs", "three")),
        ((IMAGES, "--max-epochs", "0"), ("--max-epochs 0", "at least 1")),
        ((IMAGES, "--optim.lr", "-1"), ("--optim.lr -1.0", "a number from 0 on")),
        ((IMAGES, "--accelerator", "gpus"), ("--accelerator", "gpus", "cpu")),
        ((IMAGES, "--augment.crop", "0.9", "0.2"), ("--augment.crop 0.9 0.2", "least <= greatest")),
        ((IMAGES, "--seed", "1", "--seeds", "2"), ("--seed and --seeds",)),
        ((SCRATCH, "--backbone", "resnet18"), ("--backbone",)),
        ((IMAGES, SCRATCH, "--backbone", "resnet18"), ("--backbone",)),
        (("experiments/image.py",), ("experiments/image.py", "no such experiment file", "experiments/images.py")),
        ((f"{CATS}:CatsDogsScrach",), ("no experiment CatsDogsScrach", "Did you mean CatsDogsScratch?")),
        (("/etc/passwd.py",), ("/etc/passwd.py",)),
    ],
)
def test_command_line(run_py: RunPy, arguments: tuple[str, ...], said: tuple[str, ...]) -> None:
    refused(run_py(*arguments), *said)
    assert not records.runs_dir().exists()


@pytest.fixture
def experiment_file() -> Iterator[Callable[[str], str]]:
    """Write a file into experiments/ and return its path as a user would type it."""
    written: list[Path] = []

    def write(text: str) -> str:
        path = ROOT / "experiments" / f"bad_{uuid.uuid4().hex}.py"
        path.write_text(text)
        written.append(path)
        return str(path.relative_to(ROOT))

    yield write
    for path in written:
        path.unlink()
        sys.modules.pop(f"experiments.{path.stem}", None)


HEAD = "from __future__ import annotations\nfrom experiments.images import Images\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{HEAD}class Mine(Images):\n    max_epochs = 3\n", ("DEFAULT", ":Mine")),
        (f"{HEAD}class Mine(Images:\n    pass\n", (":3", "class Mine(Images:")),
        (f"{HEAD}class Mine(Images):\n    max_epcohs = 3\n", (":3", "Mine.max_epcohs", "Did you mean max_epochs?")),
        (f"{HEAD}import torchh\n", (":3", "torchh")),
        (f"{HEAD}1 / 0\n", (":3", "ZeroDivisionError")),
        (f"{HEAD}DEFAULT = 3\n", ("DEFAULT",)),
    ],
    ids=["no default", "syntax", "typo", "import", "raises", "no experiment"],
)
def test_experiment_file(
    run_py: RunPy, experiment_file: Callable[[str], str], text: str, said: tuple[str, ...]
) -> None:
    name = experiment_file(text)
    refused(run_py(name), Path(name).name, *said)
    assert not records.runs_dir().exists()


# ------------------------------------------------------------------------------------------------------------- devices
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--accelerator", "tpu"), ("--accelerator tpu", "This machine has: cpu")),
        (("--accelerator", "mps"), ("--accelerator mps", "This machine has: cpu")),
        (("--accelerator", "gpu"), ("--accelerator gpu", "This machine has: cpu")),
        (("--accelerator", "cpu", "--devices", "0"), ("--devices 0",)),
        (("--accelerator", "cpu", "--devices", "many"), ("--devices many",)),
        (("--accelerator", "cpu", "--strategy", "dpp"), ("--strategy dpp",)),
        (("--accelerator", "cpu", "--max-time", "soon"), ("--max-time soon",)),
    ],
)
def test_devices(run_py: RunPy, images: Path, flags: tuple[str, ...], said: tuple[str, ...]) -> None:
    from src.training.devices import accelerators

    if flags[0] == "--accelerator" and flags[1] != "cpu" and accelerators()[flags[1]]:
        pytest.skip(f"this machine has {flags[1]}")
    refused(run_py(SCRATCH, *TINY, "--data-dir", images, *flags), *said)
    failed_run(*said)


# ---------------------------------------------------------------------------------------------------------------- data
def empty(data: Path) -> None:
    shutil.rmtree(data)
    data.mkdir()


def no_folder(data: Path) -> None:
    shutil.rmtree(data)
    data.touch()


def one_class(data: Path) -> None:
    for split in ("train", "val", "test"):
        shutil.rmtree(data / split / "dog")


def no_classes(data: Path) -> None:
    for folder in list(data.glob("*/*")):
        shutil.rmtree(folder)


def other_classes(data: Path) -> None:
    (data / "val" / "dog").rename(data / "val" / "wolf")


def too_few(data: Path) -> None:
    for split in ("val", "test"):
        shutil.rmtree(data / split)
    for file in sorted((data / "train" / "dog").iterdir())[2:]:
        file.unlink()
    for folder in list((data / "train").iterdir()):
        folder.rename(data / folder.name)
    (data / "train").rmdir()


def val_all_broken(data: Path) -> None:
    for file in (data / "val" / "dog").iterdir():
        file.write_bytes(b"")
    for i in range(80):  # stays under the share that stops a run
        shutil.copy(data / "train/cat/0000.jpg", data / "train/cat" / f"more{i}.jpg")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (no_folder, ("no such folder",)),
        (empty, ("at least two class folders", "<folder>/<class>/<image>")),
        (no_classes, ("look like splits, but have no class folders in them", "<split>/<class>/<image>")),
        (one_class, ("at least two class folders", "found: cat")),
        (other_classes, ("val and train differ in classes: dog, wolf",)),
        (too_few, ("class dog has 2 examples, too few",)),
        (val_all_broken, ("dog", "in val")),
    ],
)
def test_data_dir(
    run_py: RunPy, images: Path, tmp_path: Path, change: Callable[[Path], None], said: tuple[str, ...]
) -> None:
    data = shutil.copytree(images, tmp_path / "data")
    change(data)
    refused(run_py(SCRATCH, *TINY, "--data-dir", data), str(data), *said)
    failed_run(str(data), *said)


def test_a_data_dir_that_is_not_there_is_refused_before_there_is_a_run(run_py: RunPy, tmp_path: Path) -> None:
    refused(
        run_py(SCRATCH, *TINY, "--data-dir", tmp_path / "data"), f"--data-dir {tmp_path}/data: no such file or folder"
    )
    assert not records.runs_dir().exists()


def damage(data: Path) -> list[Path]:
    """Three files that do not open: cut, empty, no image."""
    names = [data / "train/cat/0001.jpg", data / "train/dog/0000.jpg", data / "train/dog/notes.txt"]
    names[0].write_bytes(names[0].read_bytes()[:500])
    names[1].write_bytes(b"")
    names[2].write_text("shopping list")
    return names


def test_few_unreadable_files_are_left_out_by_name(run_py: RunPy, images: Path, tmp_path: Path) -> None:
    data = shutil.copytree(images, tmp_path / "data")
    for i in range(40):  # three of 81 are under 5 %
        shutil.copy(data / "train/cat/0000.jpg", data / "train/cat" / f"more{i}.jpg")
    broken = damage(data)
    done = run_py(SCRATCH, *TINY, "--data-dir", data)
    assert done.exit_code == 0, done.err
    (path,) = records.runs_dir().glob("*/*/run.json")
    record = records.load(path.parent)
    notes = " ".join(record["data"]["notes"])
    assert record["data"]["sizes"]["train"] == 24 + 40 - 2
    assert "3 of 81 files" in notes
    assert "3 of 81 files" in done.out
    split = (path.parent / "split.json").read_text()
    for file in broken:
        assert str(file) in notes
        assert str(file) in done.out
        assert str(file.relative_to(data)) not in split


def test_many_unreadable_files_stop(run_py: RunPy, images: Path, tmp_path: Path) -> None:
    data = shutil.copytree(images, tmp_path / "data")
    broken = damage(data)
    refused(run_py(SCRATCH, *TINY, "--data-dir", data), "3 of 41 files", "5%", *map(str, broken))
    failed_run("3 of 41 files", *map(str, broken))
    assert all(file.exists() for file in broken), "quarantined by name, not moved"


def test_same_picture_in_two_splits_is_reported(run_py: RunPy, images: Path, tmp_path: Path) -> None:
    data = shutil.copytree(images, tmp_path / "data")
    shutil.copy(data / "train/cat/0000.jpg", data / "val/cat/again.jpg")
    done = run_py(SCRATCH, *TINY, "--data-dir", data, "--dry-run")
    assert done.exit_code == 0
    assert "train/cat/0000.jpg" in done.out
    assert "val/cat/again.jpg" in done.out


# --------------------------------------------------------------------------------------------------- network, weights
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((SCRATCH, "--source", "oxford-pet"), ("--source oxford-pet", "no network")),
        ((SCRATCH, "--source", "folder"), ("--source folder", "no such folder")),
        ((SCRATCH, "--source", "oxford"), ("--source oxford", "oxford-pet", "drawn")),
        ((TEXTBOOK, "--data-dir", "{images}"), ("--weights imagenet", "resnet50", "--weights none")),
        ((SCRATCH, "--data-dir", "{images}", "--weights", "gone.pt"), ("--weights gone.pt", "no such file")),
        ((SCRATCH, "--data-dir", "{images}", "--weights", "imagenet"), ("--weights imagenet",)),
        ((SCRATCH, "--data-dir", "{images}", "--weights", "{junk}"), ("--weights", "junk.pt", "not a state dict")),
        ((SCRATCH, "--data-dir", "{images}", "--weights", "{other}"), ("--weights", "other.pt", "not a state dict")),
        ((IMAGES, "--data-dir", "{images}", "--backbone", "resnet5"), ("--backbone resnet5", "Did you mean")),
        ((IMAGES, "--data-dir", "{images}", "--offline-backbone", "x"), ("--offline-backbone x",)),
    ],
)
def test_sources_and_weights(
    run_py: RunPy, images: Path, tmp_path: Path, arguments: tuple[str, ...], said: tuple[str, ...]
) -> None:
    (tmp_path / "junk.pt").write_bytes(b"junk")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pt")
    known = {"images": images, "junk": tmp_path / "junk.pt", "other": tmp_path / "other.pt"}
    first, *rest = (argument.format(**known) for argument in arguments)
    refused(run_py(first, *TINY, *rest), *said)
    failed_run(*said)


# ---------------------------------------------------------------------------------------------------------------- runs
def test_one_bad_of_two_experiments(run_py: RunPy, images: Path) -> None:
    outcome = run_py(TEXTBOOK, SCRATCH, *TINY, "--data-dir", images, "--weights", "imagenet", "--dry-run")
    refused(outcome, "CatsDogsTextbook", "CatsDogsScratch", "2 of 2 runs failed")
    assert not records.runs_dir().exists()


@pytest.fixture
def alarm() -> Iterator[None]:
    """End what never ends."""

    def ring(number: int, frame: object) -> None:
        raise AssertionError("never ends")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 5)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("kind", ["file", "broken link", "class is file"])
def test_no_place_for_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    place = tmp_path / "place"
    monkeypatch.setenv("LEYDEN_RUNS", str(place))
    if kind == "file":
        place.touch()
    elif kind == "broken link":
        place.symlink_to(tmp_path / "unmounted" / "disk")
    else:
        place.mkdir()
        (place / "CatsDogsScratch").touch()
    with pytest.raises(InputError, match=r"cannot make the run directory.*LEYDEN_RUNS"):
        records.create("CatsDogsScratch")


def test_record_of_another_version(run_py: RunPy, tmp_path: Path) -> None:
    fields = {**CatsDogsScratch().to_json(), "dropped": 1}
    name = CatsDogsScratch.dotted_name()
    write_json(tmp_path / "run.json", {"experiment": name, "fields": fields, "state": "interrupted"})
    refused(run_py("--resume", tmp_path), "no field dropped", "another version")
    write_json(tmp_path / "run.json", {"experiment": "experiments.gone.Gone", "fields": {}, "state": "done"})
    refused(run_py("--resume", tmp_path), "experiments.gone.Gone")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--resume",), ("--resume", "name the run directory")),
        (("--resume", "nowhere"), ("nowhere: no run",)),
        ((SCRATCH, "--resume", "nowhere"), ("nowhere: no run",)),
        (("--max-epochs", "3"), ()),
        ((), ()),
    ],
)
def test_resume_flags(run_py: RunPy, arguments: tuple[str, ...], said: tuple[str, ...]) -> None:
    outcome = run_py(*arguments)
    refused(outcome, *said)
    assert outcome.exit_code == 2
    assert said or "usage: run.py" in outcome.out
