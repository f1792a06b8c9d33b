"""The command line of run.py: what it becomes, what it refuses, and that a mistake is told before torch is imported."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from experiments.cats_dogs_finetune import CatsDogsFinetune, CatsDogsProbe, CatsDogsScratch
from experiments.images import Images
from src import cli
from src.cli import parser
from src.cli.parser import Command, RunFlags, parse
from src.experiment import Augment, InputError, Optim
from src.resources import files
from src.runs import records

ROOT = Path(__file__).resolve().parents[1]
IMAGES, CATS = "experiments/images.py", "experiments/cats_dogs_finetune.py"
SCRATCH, PROBE = f"{CATS}:CatsDogsScratch", f"{CATS}:CatsDogsProbe"
SHIPPED = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "experiments").glob("*.py")
    if not path.name.startswith(("__", "zz_", "bad_"))  # the last two are other tests' own, left behind by a kill
)


@pytest.fixture(autouse=True)
def in_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths of experiments are relative to the checkout."""
    monkeypatch.chdir(ROOT)


def plain(text: str) -> str:
    """Return text without the box that tyro draws and the line breaks that it makes."""
    return re.sub(r"[│╭╮╰╯─\s]+", " ", text)


def refused(argv: Sequence[str], capsys: pytest.CaptureFixture[str], *said: str) -> None:
    """Parsing stops with exit code 2 and says these words on stderr."""
    with pytest.raises(SystemExit) as stop:
        parse(argv)
    assert stop.value.code == 2
    shown = capsys.readouterr()
    for words in said:
        assert words in plain(shown.err)


# --------------------------------------------------------------------------------------------------- what is understood
def test_an_experiment_alone_is_its_defaults() -> None:
    assert parse([IMAGES]) == Command([Images()], RunFlags())
    assert parse([f"{IMAGES}:Images"]) == parse(["experiments.images.Images"]) == parse([str(ROOT / IMAGES)])
    assert parse([CATS]).experiments == [CatsDogsFinetune()]


def test_fields_of_every_kind() -> None:
    flags = "--max-epochs 3 --grad-clip 0.5 --data-dir some/where --precision bf16-mixed --no-cache --patience None"
    (experiment,) = parse([IMAGES, *flags.split()]).experiments
    assert experiment == Images(
        max_epochs=3, grad_clip=0.5, data_dir=Path("some/where"), precision="bf16-mixed", cache=False, patience=None
    )
    assert parse([IMAGES, "--max-epochs=3"]).experiments == [Images(max_epochs=3)]


def test_nested_fields_keep_the_rest_of_the_experiments_own() -> None:
    (experiment,) = parse([PROBE, "--optim.lr", "0.5", "--augment.crop", "0.2", "0.9"]).experiments
    own = CatsDogsProbe()
    assert experiment == CatsDogsProbe(
        optim=Optim(lr=0.5, weight_decay=own.optim.weight_decay, warmup=own.optim.warmup),
        augment=Augment(crop=(0.2, 0.9)),
    )


def test_several_experiments_share_the_flags() -> None:
    command = parse([IMAGES, SCRATCH, PROBE, "--max-epochs", "3", "--optim.lr", "0.5"])
    assert [type(experiment) for experiment in command.experiments] == [Images, CatsDogsScratch, CatsDogsProbe]
    assert {experiment.max_epochs for experiment in command.experiments} == {3}
    assert command.experiments[1].to_json()["optim"]["lr"] == 0.5
    assert command.experiments[1].to_json()["optim"]["weight_decay"] == CatsDogsScratch().optim.weight_decay


def test_seeds_run_each_experiment_once_a_seed() -> None:
    command = parse([IMAGES, SCRATCH, "--seeds", "3", "1", "2"])
    assert command.experiments == [
        *(Images(seed=seed) for seed in (3, 1, 2)),
        *(CatsDogsScratch(seed=seed) for seed in (3, 1, 2)),
    ]
    assert command.flags.seeds == (3, 1, 2)


def test_seed() -> None:
    assert parse([IMAGES, SCRATCH, "--seed", "7"]).experiments == [Images(seed=7), CatsDogsScratch(seed=7)]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--seeds", "1", "0", "1"), "--seeds 1 1: the same run twice"),
        (("--seeds", "4", "0", "2", "--ensemble", "3"), "--seeds 0 2: ensembles of 3 would share members.* 3 apart"),
    ],
)
def test_seeds_make_runs_that_share_nothing(flags: Sequence[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse([IMAGES, *flags])
    assert len(parse([IMAGES, "--seeds", "4", "0", "2", "--ensemble", "2"]).experiments) == 3


@pytest.mark.parametrize(
    "flags", [("--seed", "1", "--seeds", "2", "3"), ("--seeds", "2", "--seed", "1"), ("--seed=1", "--seeds=2")]
)
def test_seed_and_seeds_exclude_each_other(flags: Sequence[str]) -> None:
    with pytest.raises(InputError, match="--seed and --seeds: give one of the two"):
        parse([IMAGES, *flags])


def test_run_flags() -> None:
    assert parse([IMAGES, "--test"]) == Command([Images()], RunFlags(test=True))
    assert parse([IMAGES, "--dry-run"]) == Command([Images()], RunFlags(dry_run=True))
    assert parse([IMAGES, "--test", "--max-epochs", "3", "--dry-run"]) == Command(
        [Images(max_epochs=3)], RunFlags(test=True, dry_run=True)
    )


def test_a_globs_init_is_skipped() -> None:
    assert parse(["experiments/__init__.py", IMAGES]).experiments == [Images()]
    command = parse(["experiments/__init__.py", *SHIPPED])
    assert [type(experiment).__module__ for experiment in command.experiments] == [
        name.removesuffix(".py").replace("/", ".") for name in SHIPPED
    ]


# ------------------------------------------------------------------------------------------------------ what is refused
@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((IMAGES, "--max-epcohs", "3"), ("--max-epcohs", "--max-epochs")),
        ((IMAGES, "--optim.rl", "3"), ("--optim.rl", "--optim.lr")),
        ((IMAGES, "--dry-rum"), ("--dry-rum", "--dry-run")),
        ((IMAGES, "--lr", "3"), ("--lr",)),
        ((IMAGES, "--no-test"), ("--no-test",)),
        ((IMAGES, "--max-epochs", "three"), ("--max-epochs", "three")),
        ((IMAGES, "--max-epochs", "1.5"), ("--max-epochs", "1.5")),
        ((IMAGES, "--max-epochs"), ("--max-epochs",)),
        ((IMAGES, "--seeds", "one"), ("--seeds", "one")),
        ((IMAGES, "--grad-clip", "much"), ("--grad-clip", "much")),
        ((IMAGES, "--optim.schedule", "cosin"), ("--optim.schedule", "cosin", "cosine")),
        ((IMAGES, "--precision", "bf16"), ("--precision", "bf16-mixed")),
        ((IMAGES, "--augment.crop", "0.5"), ("--augment.crop",)),
        ((IMAGES, "--test", SCRATCH), (SCRATCH,)),
    ],
)
def test_flags_that_are_refused(argv: Sequence[str], said: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    refused(argv, capsys, *said)


@pytest.mark.parametrize("argv", [(IMAGES, SCRATCH), (SCRATCH, IMAGES), (SCRATCH,)])
def test_a_field_flag_must_exist_in_every_experiment(argv: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert parse([IMAGES, PROBE, "--backbone", "resnet18"]).experiments[0] == Images(backbone="resnet18")
    refused([*argv, "--backbone", "resnet18"], capsys, "--backbone")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((IMAGES, "--max-epochs", "0"), "--max-epochs 0: at least 1"),
        ((IMAGES, "--optim.warmup", "2"), "--optim.warmup 2.0: between 0 and 1"),
        ((IMAGES, "--augment.crop", "0.9", "0.1"), "--augment.crop 0.9 0.1"),
        (("experiments/imags.py",), "Did you mean experiments/images.py"),
        ((IMAGES, "experiments/imags.py", "--test"), "experiments/imags.py: no such"),
        ((f"{CATS}:CatsDogsScrach",), "Did you mean CatsDogsScratch"),
        ((IMAGES, "--resume", "runs/x"), "runs/x: no run"),
    ],
)
def test_input_errors(argv: Sequence[str], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        parse(argv)


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [(InputError("--flag 3: too much."), 2, "error: --flag 3: too much.\n"), (KeyboardInterrupt(), 130, "")],
)
def test_a_script_ends_without_a_traceback(
    raised: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def command() -> int:
        raise raised

    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))  # a script guards them, and ends
    assert cli.exit_code(command) == code
    assert capsys.readouterr() == ("", said)


# ------------------------------------------------------------------------------------------------- help and the listing
@pytest.mark.parametrize(
    ("argv", "code"),
    [
        ((), 2),
        (("--max-epochs", "3"), 2),
        (("experiments/__init__.py",), 2),
        (("--help",), 0),
        (("-h",), 0),
    ],
)
def test_without_an_experiment_all_are_listed(
    argv: Sequence[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(argv)
    assert stop.value.code == code
    shown = capsys.readouterr().out
    assert "usage: run.py" in shown
    assert SHIPPED
    for path in SHIPPED:
        title = (ROOT / path).read_text().removeprefix('"""').partition("\n")[0].removesuffix('"""')
        assert re.search(rf"{path} +{re.escape(title)}\n", shown)
    assert "__init__" not in shown


def test_the_listing_outlives_a_file_that_does_not_parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "broken.py").write_text('"""Title."""\n\nclass Mine(:\n')
    (folder / "good.py").write_text('"""A good one.\n\nMore.\n"""\n')
    (folder / "silent.py").write_text("x = 1\n")
    monkeypatch.setattr(files, "ROOT", tmp_path)
    title, broken, good, silent = parser.listing().splitlines()
    assert title == "experiments:"
    assert re.search(r"experiments/broken\.py +\(line 3: ", broken)
    assert re.search(r"experiments/good\.py +A good one\.$", good)
    assert silent.strip() == "experiments/silent.py"


def test_help_of_an_experiment_shows_each_fields_docstring(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse([SCRATCH, "--help"])
    assert stop.value.code == 0
    shown = plain(capsys.readouterr().out)
    for words in ("Train a small CNN", "--max-epochs {None}|INT", "Passes over the training data.", "(default: 30)"):
        assert words in shown
    for words in ("--optim.lr", "--augment.crop", "--seeds", "--dry-run", "Side in pixels", "Peak learning rate"):
        assert words in shown
    assert "--backbone" not in shown
    assert "--experiment" not in shown


def test_help_names_the_other_experiments_of_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["experiments/digits.py:DigitsCNN", "--help"])
    shown = " ".join(plain(capsys.readouterr().out).split())
    assert "Also in this file, as FILE:Name:" in shown
    assert "SoftmaxRegression" in shown
    assert "DigitsCNN," not in shown


# --------------------------------------------------------------------------------------------------------------- resume
ASKED = CatsDogsScratch(seed=4, max_epochs=7, data_dir=Path("some/where"), optim=Optim(lr=0.5))


@pytest.fixture
def run(tmp_path: Path) -> str:
    """The directory of a run that began and did not end."""
    folder = tmp_path / "runs" / "CatsDogsScratch" / "20260131T120000Z-1a2b"
    folder.mkdir(parents=True)
    records.Record(folder).start(ASKED)
    return str(folder)


def test_resume_takes_the_runs_own_experiment_and_fields(run: str) -> None:
    command = parse(["--resume", run])
    assert command == Command([ASKED], RunFlags(resume=Path(run)))
    assert type(command.experiments[0]) is CatsDogsScratch


def test_resume_with_further_flags(run: str) -> None:
    command = parse(["--resume", run, "--test", "--max-epochs", "9", "--optim.warmup", "0.5"])
    changed = CatsDogsScratch(seed=4, max_epochs=9, data_dir=Path("some/where"), optim=Optim(lr=0.5, warmup=0.5))
    assert command == Command([changed], RunFlags(resume=Path(run), test=True))
    assert parse(["--max-epochs", "9", "--resume", run]).experiments[0].max_epochs == 9
    assert parse(["--resume", run, "--seed", "4"]).experiments == [ASKED]


def test_resume_with_the_experiment_named(run: str) -> None:
    """As it has to be where its file is not below experiments/."""
    named = f"{CATS}:CatsDogsScratch"
    assert parse([named, "--resume", run]) == parse(["--resume", run])
    with pytest.raises(InputError, match=rf"--resume: that is a run of {ASKED.dotted_name()}, not of {IMAGES}"):
        parse([IMAGES, "--resume", run])


def test_resume_as_one_word(run: str) -> None:
    assert parse([f"--resume={run}"]) == parse(["--resume", run])


@pytest.mark.parametrize("flags", [("--seed", "5"), ("--seeds", "4"), ("--seeds", "1", "2")])
def test_resume_keeps_the_seed(run: str, flags: Sequence[str]) -> None:
    with pytest.raises(InputError, match="leave --seed and --seeds out"):
        parse(["--resume", run, *flags])


def test_resume_of_what_is_no_run(run: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name the run directory"):
        parse(["--resume"])
    with pytest.raises(InputError, match=rf"nowhere: no run.*There: {run}"):
        parse(["--resume", str(Path(run).parent / "nowhere")])
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match="damaged record"):
        parse(["--resume", str(tmp_path)])


def test_resume_refuses_what_the_experiment_does_not_have(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused(["--resume", run, "--backbone", "resnet18"], capsys, "--backbone")
    refused(["--resume", run, "--max-epcohs", "3"], capsys, "--max-epcohs", "--max-epochs")


# ----------------------------------------------------------------------------------------------------- what is imported
IMPORTED = """
import runpy, sys
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as stop:
    code = stop.code
heavy = {"torch", "torchvision", "lightning", "timm", "sklearn", "matplotlib"} & set(sys.modules)
print("imported", code, *sorted(heavy))
"""


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        *(((path, "--help"), 0) for path in SHIPPED),
        ((*SHIPPED, "--max-epcohs", "3"), 2),
        ((*SHIPPED, "--max-epochs", "0"), 2),
        (("experiments/imags.py",), 2),
        ((f"{CATS}:CatsDogsScrach",), 2),
        ((), 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_help_and_mistakes_import_nothing_heavy(argv: Sequence[str], code: int) -> None:
    program = IMPORTED.replace("import runpy, sys", f"import runpy, sys\nsys.argv = {['scripts/run.py', *argv]!r}", 1)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.splitlines()[-1] == f"imported {code}", done.stdout + done.stderr
    assert "Traceback" not in done.stderr
