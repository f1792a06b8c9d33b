"""A recipe that suits the number of training rows, and a run that says when it was too short."""

from __future__ import annotations

import contextlib
import io
import math
from pathlib import Path
from typing import Any

import pytest

from experiments.imdb_lstm import ImdbLstm
from experiments.tables import TableLinear
from experiments.texts import TextsLstm, TextsMultiLabel
from src import cli
from src.cli.commands import run_all
from src.cli.parser import experiment_of
from src.datamodules import Fold
from src.experiment import InputError, Optim, replace
from src.runs import hints, records
from src.runs.hints import still_improving
from src.studies.reproduce import reproduce
from src.training import build, runner
from src.training.options import RunOptions

pytestmark = pytest.mark.usefixtures("quiet")

WORDS = {"billing": "invoice refund", "login": "password code"}
SHORT: dict[str, Any] = {"accelerator": "cpu", "precision": "32-true"}


@pytest.fixture
def tickets(tmp_path: Path) -> Path:
    """Forty easy texts, 28 of them for training."""
    rows = [
        f"ticket {n} my {word} is wrong,{team}"
        for team, own in WORDS.items()
        for n in range(10)
        for word in own.split()
    ]
    (tmp_path / "tickets.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    return tmp_path / "tickets.csv"


@pytest.mark.parametrize(
    ("rows", "devices", "epochs"),
    [(500, 1, 75), (800, 1, 47), (5000, 1, 8), (5000, 2, 15), (9600, 1, 4), (20_000, 1, 4), (10**6, 1, 4)],
)
def test_epochs_make_six_hundred_steps_and_are_four_at_least(rows: int, devices: int, epochs: int) -> None:
    sized = TextsLstm().sized(rows, devices)
    assert sized == replace(TextsLstm(), max_epochs=epochs), "nothing else changes where there are not few rows"


def test_few_rows_have_a_recipe_that_any_other_value_wins_over() -> None:
    sized = TextsLstm().sized(85, 1)
    assert (sized.max_epochs, sized.batch_size, sized.optim.lr, sized.optim.layer_decay) == (100, 16, 1e-2, 1.0)
    assert (sized.monitor, sized.mode) == ("val/loss", "min")
    own: dict[str, Any] = {"batch_size": 8, "optim": Optim(lr=0.5), "monitor": "val/f1", "max_epochs": 4}
    assert TextsLstm(**own).sized(85, 1) == TextsLstm(**own)
    assert TextsLstm(few_rows=0).sized(85, 1) == TextsLstm(few_rows=0, max_epochs=100)


def test_a_number_of_epochs_wins_in_a_subclass_and_on_the_command_line() -> None:
    class Mine(TextsLstm):
        max_epochs = 7

    assert Mine().sized(85, 1).max_epochs == 7
    parsed = cli.parse(["experiments/texts.py", "--max-epochs", "4"]).experiments[0]
    assert parsed.sized(85, 1).max_epochs == 4


def test_quoted_recipes_are_what_they_were_on_their_data() -> None:
    assert ImdbLstm().sized(17_474, 1) == ImdbLstm(max_epochs=4)
    assert ImdbLstm().sized(100, 1) == ImdbLstm()
    assert TextsMultiLabel().sized(2100, 1) == TextsMultiLabel(max_epochs=20)


def test_other_experiments_want_a_number() -> None:
    with pytest.raises(InputError, match="--max-epochs None: TableLinear does not say how many"):
        TableLinear(target="price", max_epochs=None).sized(100, 1)


@pytest.fixture
def found(tickets: Path) -> tuple[Path, str]:
    """A run with as many epochs as suit its rows, fewer for the test's sake, and what it printed."""
    asked = TextsLstm(data_dir=tickets, batch_size=8, few_rows=29, **SHORT)
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr("experiments.bases.lstm_texts.LEAST_STEPS", 24)
        run = runner.run(asked, RunOptions(test=True))
    return run, printed.getvalue()


def test_a_run_records_shows_and_keeps_what_its_rows_made_of_the_recipe(found: tuple[Path, str]) -> None:
    run, printed = found
    record = records.load(run)
    assert record["data"]["sizes"]["train"] == 28
    assert (record["fields"]["max_epochs"], record["reason"]) == (6, "max_epochs 6 reached")
    assert record["steps"] == 24
    assert record["best"]["name"] == "val/loss"
    assert record["asked"] == {}
    assert "for 28 training rows: --max-epochs 6, --monitor val/loss, --mode min, --optim.lr 0.01" in printed
    assert "up to 6 epochs, 24 steps" in printed
    assert reproduce(run, experiment_of(run), RunOptions(test=True)), "where the rule would say 100 epochs"


def test_a_run_from_before_goes_on_as_it_began(tickets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = TextsLstm(data_dir=tickets, few_rows=0, max_epochs=2, **SHORT)
    run = runner.run(experiment)
    record = records.Record.read(run)
    fields = {name: value for name, value in record["fields"].items() if name != "few_rows"}
    record.update(fields=fields, state="interrupted")
    runner.run(replace(experiment_of(run), max_epochs=3), RunOptions(resume=run))
    after = records.load(run)
    assert (after["fields"]["batch_size"], after["best"]["name"], after["state"]) == (64, "val/acc", "done")


def test_a_dry_run_shows_the_epochs(tickets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_all([TextsLstm(data_dir=tickets, **SHORT)], cli.RunFlags(dry_run=True)) == 0
    said = capsys.readouterr().out
    assert "batch 16, up to 100 epochs, 200 steps" in said
    assert "for 28 training rows: --max-epochs 100, --batch-size 16, --monitor val/loss" in said
    assert "STAND-IN" not in said


def test_a_fold_has_the_epochs_of_its_own_rows(tickets: Path) -> None:
    experiment = TextsLstm(data_dir=tickets, few_rows=0, batch_size=1, **SHORT)
    datamodule = build.make_datamodule(experiment, Fold(1, 4))
    sized = build.set_up(experiment, datamodule)
    rows = len(datamodule.ids("train"))  # pyright: ignore[reportAttributeAccessIssue]
    assert sized.max_epochs == math.ceil(600 / rows)


# ------------------------------------------------------------------------------------------------------ the note
IMPROVING: list[tuple[list[float], Any, int]] = [
    ([0.71, 0.75, 0.78], "max", 2500),
    ([0.27, 0.40, 0.60, 0.775], "max", 120),
    ([0.40, 0.65], "max", 200),
    ([0.2, *(0.2 + 0.006 * n for n in range(100))], "max", 1000),  # by little in each epoch
    ([1.6, 1.4, 1.1, 0.8], "min", 0),
    ([math.nan, 0.5, 0.6, 0.7], "max", 1000),
]
ENDED: list[tuple[list[float], Any, int]] = [
    ([], "max", 100),
    ([0.5], "max", 100),
    ([0.85, 0.87], "max", 2500),  # two validations of one epoch show no trend
    ([0.71, 0.75, 0.78], "max", 100),  # chance explains it
    ([0.2, 0.27, 0.33, 0.40], "max", 15),
    ([0.71, 0.78, 0.75], "max", 2500),
    ([0.71, 0.78, 0.78], "max", 2500),
    ([0.60, 0.75, 0.85, 0.89, 0.900, 0.904, 0.906, 0.9065], "max", 100_000),  # a rate that falls to zero
    ([0.69, 0.45, 0.33, 0.29, 0.28, 0.279], "min", 1000),
    ([0.5, 0.6, math.nan], "max", 1000),
    ([math.nan, math.nan, 0.9], "max", 1000),
    ([1.6, 1.59, 1.58], "min", 1000),
]


@pytest.mark.parametrize(("values", "mode", "examples"), IMPROVING)
def test_a_clear_rise_at_the_end_is_told(values: list[float], mode: Any, examples: int) -> None:
    assert still_improving(values, mode, examples)
    assert not still_improving([*values, values[-1]], mode, examples), "the last is no better than the one before"


@pytest.mark.parametrize(("values", "mode", "examples"), ENDED)
def test_chance_and_the_tail_of_a_schedule_are_not(values: list[float], mode: Any, examples: int) -> None:
    assert not still_improving(values, mode, examples)


def test_a_short_run_says_so_and_a_long_one_does_not(tickets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    easy: dict[str, Any] = {"data_dir": tickets, "monitor": "val/loss", "mode": "min", "few_rows": 0, **SHORT}
    easy |= {"optim": Optim(lr=1e-2, schedule="constant"), "batch_size": 2}
    short = records.load(runner.run(TextsLstm(max_epochs=2, validations=2, **easy)))
    said = capsys.readouterr().out
    assert len(short["still_improving"]) == hints.LAST_SHOWN
    assert "NOTE       val/loss was still improving when training ended (" in said
    assert "--max-epochs 4 may do better" in said
    assert hints.longer(short) in said
    long = records.load(runner.run(TextsLstm(max_epochs=25, **easy)))
    assert "still_improving" not in long
    assert "still improving" not in capsys.readouterr().out
