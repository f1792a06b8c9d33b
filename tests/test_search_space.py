"""The command line of search.py: the space, what is refused, and what --resume holds on to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from searches import SPACE, Houses

from src import cli
from src.cli.search import SearchCommand, differences, seconds_of, space_of
from src.configs.search import Choice, Range, Search, choice, uniform
from src.experiment import InputError, log

FLOATS = st.floats(min_value=1e-9, max_value=1e9, allow_nan=False)
ROOT = Path(__file__).resolve().parents[1]
DIGITS = "experiments/digits.py"


def parsed(*arguments: str) -> SearchCommand:
    return cli.parse_search([DIGITS, *arguments])


def refused(*arguments: str) -> str:
    with pytest.raises(InputError) as error:
        cli.parse_search(list(arguments))
    return str(error.value)


@given(low=FLOATS, high=FLOATS, scale=st.sampled_from(["", ":log"]))
def test_ranges(low: float, high: float, scale: str) -> None:
    text = f"optim.lr={low!r}..{high!r}{scale}"
    if not low < high:
        with pytest.raises(InputError, match="less than the second"):
            space_of([text], Houses())
        return
    assert space_of([text], Houses()) == {"optim.lr": Range(low=low, high=high, log=scale == ":log")}


@given(st.lists(st.integers(1, 10_000), min_size=2, max_size=5, unique=True))
def test_choices(values: list[int]) -> None:
    numbers = ",".join(map(str, values))
    assert space_of([f"--mlp.width={numbers}"], Houses()) == {"mlp.width": Choice(values=tuple(values))}
    names = space_of([f"data_dir={numbers}"], Houses())["data_dir"]  # a path may be a number
    assert [str(value) for value in names.ends()] == list(map(str, values))


def test_values_are_as_the_fields_have_them() -> None:
    found = parsed("--search", "optim.lr=1..2", "batch-size=16..64", "optim.name=adamw,lion", "flip=true,False").search
    assert found.space["optim.lr"].ends() == (1.0, 2.0)
    assert [type(end) for name in ("optim.lr", "batch_size") for end in found.space[name].ends()] == [float] * 2 + [
        int
    ] * 2
    assert found.space["optim.name"] == choice("adamw", "lion")
    assert found.space["flip"] == choice(True, False)
    assert found.trials == 30


def test_flags_of_the_search_and_of_its_trials() -> None:
    command = parsed("--search", "shift=1,2", "--trials", "7", "--sampler", "grid", "--pruner", "none", "--seed", "3")
    assert (command.search.trials, command.search.sampler, command.search.pruner) == (7, "grid", "none")
    assert command.seeds == (4, 5, 6, 7, 8)  # none that chooses
    assert parsed("--search", "shift=1,2", "--no-confirm").seeds == ()
    command = parsed("--search", "shift=1,2", "--max-time", "01:30:00", "--max-epochs", "3")
    assert (command.seconds, command.experiment.max_time, command.experiment.max_epochs) == (5400.0, None, 3)


def test_the_classs_own_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys.modules["experiments.digits"].DigitsCNN, "search", Search({"shift": choice(1, 2)}, trials=4)
    )
    assert parsed().search == Search({"shift": choice(1, 2)}, trials=4)
    assert parsed("--trials", "5").search.trials == 5
    assert parsed("--search", "flip=true,false").search == Search({"flip": choice(True, False)})


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--search", "optim.lr"), "FIELD=LOW..HIGH"),
        (("--search", "optim.lr="), "FIELD=LOW..HIGH"),
        (("--search", "optim.lr=a..b"), "two numbers, as in optim.lr=1e-4..1e-2"),
        (("--search", "optim.lr=1e-4..1e-2:lin"), "two numbers"),
        (("--search", "optim.lr=0..1:log"), "from above 0 on"),
        (("--search", "optim.rate=1,2"), "optim.rate: Optim has no such field"),
        (("--search", "shfit=1,2"), "did you mean shift"),
        (("--search", "shift=1"), "two values or more"),
        (("--search", "shift=1,1"), "two values or more"),
        (("--search", "shift=1,2", "shift=3,4"), "there twice"),
        (("--search", "shift=0.5..2.5"), "shift=0.5: expected int"),
        (("--search", "optim.name=1..2"), "optim.name=1: expected str"),
        (("--search", "optim.schedule=cosine,wavy"), "expected one of"),
        (("--search", "batch_size=0..4"), "--batch-size 0: at least 1"),
        (("--search", "optim.lr=0.1..1", "--sampler", "grid"), "a grid needs the values"),
        (("--search", "shift=1,2", "--trials", "0"), "--trials 0: at least 1"),
        (("--search", "shift=1,2", "--workers", "0"), "--workers 0: at least 1"),
        (("--search", "shift=1,2", "--seeds", "1", "1"), "the same run twice"),
        (("--search", "shift=1,2", "--seeds", "0"), "chose the setting"),
        (("--search", "shift=1,2", "--seeds", "1", "--no-confirm"), "give one of the two"),
        (("--search", "shift=1,2", "--max-time", "1h"), "--max-time 1h"),
        ((), "does not say what is searched"),
    ],
)
def test_what_is_refused(arguments: tuple[str, ...], why: str) -> None:
    assert why.lower() in refused(DIGITS, *arguments).lower()


def test_one_experiment() -> None:
    assert "name one experiment" in refused(DIGITS, "experiments/tables.py", "--search", "seed=1,2")
    assert "no run" in refused("--resume", "runs/none")
    assert "name the run directory" in refused("--resume")
    with pytest.raises(SystemExit):
        cli.parse_search([])


def test_unknown_flags(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        parsed("--serach", "shift=1,2")
    assert error.value.code == 2
    assert "--search" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "seconds"), [("00:00:05", 5), ("01:00:00", 3600), ("01:00:00:00", 86400), ("100:00:00", 360_000)]
)
def test_times(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


def test_differences_of_spaces() -> None:
    then = Search({"optim.lr": log(1e-4, 1e-2), "width": choice(1, 2), "dropout": uniform(0, 1)})
    now = Search({"optim.lr": log(1e-4, 1e-1), "width": choice(1, 2), "depth": choice(1, 2)}, trials=90, pruner="asha")
    assert differences(then, now) == [
        "optim.lr: 0.0001..0.01:log -> 0.0001..0.1:log",
        "dropout: 0..1 -> not searched",
        "pruner: median -> asha",
        "depth: not searched -> 1,2",
    ]
    assert differences(SPACE, Search.from_json(SPACE.to_json() | {"metric": "val/acc"})) == []


def test_a_condition_is_said() -> None:
    assert uniform(0, 1).when("optim.name", "sgd", "lion").text() == "0..1, where optim.name is sgd or lion"


@pytest.mark.parametrize(("arguments", "code"), [((DIGITS, "--help"), 0), ((DIGITS, "--search", "shfit=1,2"), 2)])
def test_help_and_mistakes_import_nothing_heavy(arguments: tuple[str, ...], code: int) -> None:
    program = f"import sys\nsys.argv = {['scripts/search.py', *arguments]!r}\n" + CALLED
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == f"imported {code}", done.stdout + done.stderr


CALLED = """
import runpy
code = 0
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as stop:
    code = stop.code
print("imported", code, *sorted({"torch", "lightning", "optuna"} & set(sys.modules)))
"""
