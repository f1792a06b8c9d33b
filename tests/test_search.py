"""Searches: trials as runs, chosen by validation values alone, pruned, confirmed over seeds, and gone on with."""

from __future__ import annotations

import contextlib
import math
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import searches
import torch
from conftest import own_home
from filelock import FileLock
from lightning.pytorch import Callback, LightningModule, Trainer
from searches import SPACE, Houses, only_search, story

from experiments.tables import TableRegression
from src import api, cli
from src.cli import commands
from src.configs import flags as config_flags
from src.configs.changes import with_fields
from src.configs.search import Search, choice, uniform
from src.experiment import DataSpec, InputError, log
from src.runs import records, state
from src.runs.compare.runs import find
from src.studies.search import SearchOptions, search, study_of
from src.studies.trials import Trials
from src.tasks import Task

pytestmark = pytest.mark.usefixtures("quiet")

FILE = "experiments/tables.py"
SMALL = (
    "--target price --columns.ignored size --max-epochs 4 --batch-size 16 --mlp.width 8 --logger csv --accelerator cpu"
)


def call(*arguments: str | Path) -> int:
    """Do what search.py does with these arguments."""
    return cli.search(cli.parse_search(list(map(str, arguments))))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Return why the command line or the search is refused."""
    capsys.readouterr()
    try:
        code = call(*arguments)
    except InputError as error:
        return str(error)
    assert code == 1
    return capsys.readouterr().err


def flags(data: Path, *more: str) -> list[str]:
    space = [f"{name}={domain.text()}" for name, domain in SPACE.space.items()]
    return [FILE, "--data-dir", str(data), *SMALL.split(), "--search", *space, "--trials", "8", *more]


# ------------------------------------------------------------------------------------------------------- a whole search
@dataclass(frozen=True)
class Searched:
    """A search that is done."""

    run: Path
    out: str
    data: Path

    @property
    def record(self) -> dict[str, Any]:
        return records.load(self.run)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("search")
    with own_home(folder):
        yield folder


@pytest.fixture(scope="module")
def searched(home: Path, houses: Path) -> Searched:
    out = home / "out.txt"
    with open(out, "w", encoding="utf-8") as file, contextlib.redirect_stdout(file):
        assert call(*flags(houses, "--seeds", "1", "2", "3")) == 0
    return Searched(only_search(), out.read_text(encoding="utf-8"), houses)


def lines(text: str, label: str) -> list[str]:
    return [line.removeprefix(label).strip() for line in text.splitlines() if line.startswith(f"{label} ")]


def test_each_trial_is_a_run_by_its_validation_value(searched: Searched) -> None:
    study = study_of(searched.run)
    assert len(study.get_trials()) == 8
    for trial in study.get_trials():
        run = searched.run / f"trial-{trial.number + 1}"
        record = records.load(run)
        assert trial.user_attrs["run"] == run.name
        assert record["state"] == "done"
        found = api.load(run).record["fields"]
        assert {"optim.lr": found["optim"]["lr"], "mlp.width": found["mlp"]["width"]}.items() <= trial.params.items()
        values = [value for _, _, name, value in records.metrics(run) if name == "val/rmse"]
        assert trial.intermediate_values == dict(enumerate(values, 1))
        if trial.state.name == "COMPLETE":
            assert trial.value == record["best"]["value"] == min(values)
    best = min((one for one in study.get_trials() if one.state.name == "COMPLETE"), key=lambda one: one.value or 0.0)
    record = searched.record
    assert record["best"] == {
        "name": "val/rmse",
        "mode": "min",
        "value": best.value,
        "trial": best.number + 1,
        "run": f"trial-{best.number + 1}",
    }
    assert record["setting"] == best.params
    assert (record["state"], record["reason"]) == ("done", "8 trials")
    assert {"metric": "val/rmse", "mode": "min", "trials": 8}.items() <= record["search"].items()
    shown = [line for number in range(1, 9) for line in lines(searched.out, f"trial {number}")]
    assert len(shown) == 8
    assert all(f"best {record['best']['value']:.4f}" in line for line in shown[best.number :])


def test_no_trial_reads_the_test_set(searched: Searched) -> None:
    for run in searched.run.glob("trial-*"):
        record = records.load(run)
        assert record["tests_read"] == 0
        assert not any(name.startswith("test/") for name in record["metrics"])
        assert not (run / "predictions_test.csv").exists()
    assert {records.load(run)["tests_read"] for run in searched.run.glob("best-*")} == {1}


def test_the_confirmation_is_that_of_separate_runs(searched: Searched) -> None:
    (words,) = lines(searched.out, "run ")[-1:]
    target, *printed = shlex.split(words)[2:]
    command = cli.parse([target, *printed, "--seeds", "1", "2", "3", "--test"])
    fields = [target, "--data-dir", str(searched.data), *SMALL.split()]
    default = cli.parse([*fields, "--seeds", "1", "2", "3", "--test"])
    found = searched.record["confirmed"]
    assert found["seeds"] == [1, 2, 3]
    for name, asked in (("best", command), ("default", default)):
        alone = [records.load(commands.train(experiment, asked.flags)) for experiment in asked.experiments]
        for seed, one in zip((1, 2, 3), alone, strict=True):
            assert one["metrics"] == records.load(searched.run / f"{name}-{seed}")["metrics"]
        assert found[name]["test/rmse"] == pytest.approx(sum(one["metrics"]["test/rmse"] for one in alone) / 3)
    difference = found["differences"]["test/rmse"]
    assert difference["mean"] == pytest.approx(found["best"]["test/rmse"] - found["default"]["test/rmse"])
    assert difference["low"] < difference["mean"] < difference["high"]
    assert searched.record["metrics"]["test/rmse"] == found["best"]["test/rmse"]
    (chosen,) = lines(searched.out, "chosen")
    assert f"{searched.record['best']['value']:.4f}" in chosen
    assert f"{found['best']['best val/rmse']:.4f}" in chosen


def test_the_class_that_is_printed_is_the_best_setting(searched: Searched) -> None:
    text = searched.out[searched.out.index("class      ") :]
    code = [line[11:] for line in text.splitlines() if not line.startswith(("run ", "page ", "curves "))]
    names: dict[str, Any] = {"TableRegression": TableRegression, "__name__": "experiments.tables"}
    exec("\n".join(code), names)
    tuned = names["TableRegressionTuned"]()
    assert {
        "optim.lr": tuned.optim.lr,
        "mlp.width": tuned.mlp.width,
        "mlp.dropout": tuned.mlp.dropout,
    } == searched.record["setting"]
    assert tuned.data_dir == searched.data


def test_a_search_has_no_weights_of_its_own(searched: Searched, capsys: pytest.CaptureFixture[str]) -> None:
    best = str(searched.run / searched.record["best"]["run"])
    loaded = api.load(searched.run)
    for ask in (
        lambda: loaded.predict([searched.data]),
        lambda: loaded.explain([searched.data]),
        lambda: commands.train(Houses(), cli.RunFlags(reproduce=None, resume=searched.run)),
    ):
        with pytest.raises(InputError) as error:
            ask()
        assert best in str(error.value) or "search.py --resume" in str(error.value)
    assert len(api.load(best).predict([searched.data])) == 120


def test_compare_shows_a_search_as_one_row_and_its_trials_where_it_is_named(searched: Searched) -> None:
    (one,) = (run for run in find([searched.run.parent.parent])[0] if run.path == searched.run)
    assert one.best["value"] == searched.record["best"]["value"]
    names = {run.path.name for run in find([searched.run])[0]}
    assert names == {f"trial-{n}" for n in range(1, 9)} | {f"{w}-{s}" for w in ("best", "default") for s in (1, 2, 3)}


def test_it_is_gone_on_with_as_it_was(searched: Searched, capsys: pytest.CaptureFixture[str]) -> None:
    before = story(searched.run), searched.record["confirmed"], searched.record["best"]
    assert call("--resume", searched.run) == 0  # nothing is left to do
    assert (story(searched.run), searched.record["confirmed"], searched.record["best"]) == before
    assert call("--resume", searched.run, "--no-confirm") == 0
    assert searched.record["confirmed"] == before[1]
    changed = refused(capsys, "--resume", searched.run, "--search", "optim.lr=1e-4..1e-2:log", "mlp.width=4,8,16")
    assert "optim.lr: 0.0001..0.1:log -> 0.0001..0.01:log; mlp.dropout: 0.0,0.3 -> not searched" in changed
    assert "sampler: tpe -> random" in refused(capsys, "--resume", searched.run, "--sampler", "random")
    assert "give as many or more" in refused(capsys, "--resume", searched.run, "--trials", "3")
    assert "leave theirs out" in refused(capsys, "--resume", searched.run, "--max-epochs", "3")
    with FileLock(searched.run / "lock"):
        assert "is at work on this run" in refused(capsys, "--resume", searched.run)
    assert "no search that is running" in refused(capsys, "--join", searched.run)
    assert searched.record["state"] == "done"
    plain = searched.run / "trial-1"
    assert "no search" in refused(capsys, "--resume", plain)


def test_earlier_runs_are_trials(searched: Searched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEYDEN_RUNS", str(tmp_path / "runs"))
    assert call(*flags(searched.data, "--no-confirm", "--trials", "2", "--import", str(searched.run))) == 0
    found = study_of(only_search()).get_trials()
    assert len(found) == 2 + 8  # its trials; the runs of the confirmation have other seeds
    earlier = sorted((one.state.name, one.value, *one.params.items()) for one in found if "imported" in one.user_attrs)
    assert earlier == sorted(
        (one.state.name, one.value, *one.params.items()) for one in study_of(searched.run).get_trials()
    )
    assert [path.name for path in sorted(only_search().glob("trial-*"))] == ["trial-10", "trial-9"]
    assert records.load(only_search())["best"]["value"] <= searched.record["best"]["value"]


# ------------------------------------------------------------------------------------------------- in smaller searches
class Short(Houses):
    """One epoch."""

    max_epochs = 1


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid", "gp"])
def test_samplers(sampler: Any, houses: Path) -> None:
    space = {"mlp.width": choice(2, 4), "mlp.depth": choice(1, 2), "optim.lr": log(1e-3, 1e-1)}
    if sampler == "grid":
        del space["optim.lr"]
    experiment = Short(data_dir=houses)
    wanted = Search(space, trials=12 if sampler in ("tpe", "gp") else 5, sampler=sampler).checked(experiment)
    run = search(experiment, wanted)
    settings = [one.params for one in study_of(run).get_trials()]
    assert len(settings) == (4 if sampler == "grid" else wanted.trials)
    assert all(setting.keys() == space.keys() for setting in settings)
    if sampler == "grid":
        assert {(one["mlp.width"], one["mlp.depth"]) for one in settings} == {(2, 1), (2, 2), (4, 1), (4, 2)}
    assert records.load(run)["best"]["value"] == min(one.value or math.inf for one in study_of(run).get_trials())


def test_a_field_is_searched_beside_another_alone(houses: Path) -> None:
    space = {
        "optim.momentum": uniform(0.5, 0.9).when("optim.name", "sgd"),
        "optim.name": choice("sgd", "adamw"),
    }
    experiment = Short(data_dir=houses)
    run = search(experiment, Search(space, trials=6, sampler="random").checked(experiment))
    settings = [one.params for one in study_of(run).get_trials()]
    assert {one["optim.name"] for one in settings} == {"sgd", "adamw"}
    assert all(("optim.momentum" in one) == (one["optim.name"] == "sgd") for one in settings)
    trained = records.load(run / "trial-1")["fields"]["optim"]
    assert {f"optim.{name}": trained[name] for name in ("name",)}.items() <= settings[0].items()


def test_a_setting_is_not_trained_twice(houses: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = Short(data_dir=houses)
    run = search(experiment, Search({"mlp.width": choice(2, 4)}, trials=5, sampler="random").checked(experiment))
    found = study_of(run).get_trials()
    values = {one.params["mlp.width"]: one.value for one in found}
    assert [one.value for one in found] == [values[one.params["mlp.width"]] for one in found]
    assert len(list(run.glob("trial-*"))) == len(values) < 5
    assert "as trial 1" in capsys.readouterr().out


class Breaks(Short):
    """A bug of the user's with some widths, until it is mended."""

    broken: tuple[int, ...] = ()
    """Widths."""

    def task(self, spec: DataSpec) -> Task:
        if self.mlp.width in self.broken:
            raise RuntimeError("that width breaks")
        return super().task(spec)


WIDTHS = Search({"mlp.width": choice(*range(2, 12))}, trials=7, sampler="grid")


def test_a_failing_trial_is_recorded_and_the_search_goes_on(houses: Path) -> None:
    experiment = Breaks(data_dir=houses, broken=(2, 3, 4))
    run = search(experiment, WIDTHS.checked(experiment))
    found = study_of(run).get_trials()
    failed = [one for one in found if one.state.name == "FAIL"]
    assert len(found) == 7
    assert {one.params["mlp.width"] for one in failed} == {2, 3, 4} & {one.params["mlp.width"] for one in found}
    for one in failed:
        assert "that width breaks" in one.user_attrs["reason"]
        assert records.load(run / one.user_attrs["run"])["state"] == "failed"
        assert "Traceback" in (run / one.user_attrs["run"] / "output.txt").read_text(encoding="utf-8")
    assert records.load(run)["state"] == "done"


class Hopeless(Short):
    """A bug of the user's."""

    def task(self, spec: DataSpec) -> Task:
        raise RuntimeError("every width breaks")


def test_a_hopeless_search_stops(houses: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = Hopeless(data_dir=houses)
    with pytest.raises(InputError, match=r"the first 5 trials have failed: RuntimeError: every width breaks$"):
        search(experiment, WIDTHS.checked(experiment))
    run = only_search()
    assert records.load(run)["state"] == "failed"
    assert len(study_of(run).get_trials()) == 5
    monkeypatch.setattr(Hopeless, "task", Short.task)  # the bug is mended
    search(experiment, WIDTHS.checked(experiment), SearchOptions(resume=run))
    assert [one.state.name for one in study_of(run).get_trials()] == ["FAIL"] * 5 + ["COMPLETE"] * 2


class LogsNan(Callback):
    """A metric of the user's that is no number for some widths."""

    def __init__(self, width: int) -> None:
        self.width = width

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.log("val/mine", float("nan") if self.width < 6 else float(self.width))


class Nan(Short):
    """Chosen by a metric that is NaN for some widths."""

    monitor = "val/mine"
    mode = "max"

    def callbacks(self) -> list[Callback]:
        return [LogsNan(self.mlp.width)]


def test_a_value_that_is_no_number_is_a_failure(houses: Path) -> None:
    experiment = Nan(data_dir=houses)
    run = search(experiment, replace(WIDTHS, trials=10).checked(experiment))
    for one in study_of(run).get_trials():
        assert (one.state.name == "FAIL") == (one.params["mlp.width"] < 6)
        if one.state.name == "FAIL":
            assert one.user_attrs["reason"] == "val/mine was nan in every validation"
    assert records.load(run)["setting"] == {"mlp.width": 11}


class Long(Houses):
    """Ten epochs of two validations."""

    max_epochs = 10
    validations = 2


@pytest.mark.parametrize("pruner", ["median", "asha"])
def test_pruning_ends_trainings(pruner: Any, houses: Path) -> None:
    experiment = Long(data_dir=houses)
    space = {"optim.lr": log(1e-5, 1e-1)}
    run = search(experiment, Search(space, trials=10, sampler="random", pruner=pruner).checked(experiment))
    found = study_of(run).get_trials()
    pruned = [one for one in found if one.state.name == "PRUNED"]
    assert 0 < len(pruned) < 10
    for one in pruned:
        record, last = records.load(run / one.user_attrs["run"]), max(one.intermediate_values)
        assert record["state"] == "done"
        assert record["reason"].startswith(f"pruned: val/rmse {one.intermediate_values[last]:.4f} at validation {last}")
        assert last in (4, 12) if pruner == "asha" else 4 <= last < 20  # from a fifth of the training on
        steps = max(step for _, step, _, _ in records.metrics(run / one.user_attrs["run"])) + 1
        assert steps == math.ceil(record["steps"] * last / 20)
    whole = [one for one in found if one.state.name == "COMPLETE"]
    assert all(list(one.intermediate_values) == list(range(1, 21)) for one in whole)
    best = [min(one.intermediate_values[number] for number in range(1, 5)) for one in whole]
    assert all(min(one.intermediate_values[number] for number in range(1, 5)) >= min(best) for one in pruned)


def test_more_trials_find_a_better_setting(houses: Path) -> None:
    """The confirmation of the one before keeps another name, and the new best has its own."""
    experiment = Short(data_dir=houses)
    wanted = Search({"optim.lr": choice(1e-4, 1e-3, 1e-2, 1e-1)}, trials=1, sampler="grid").checked(experiment)
    run = search(experiment, wanted, SearchOptions(seeds=(1,)))
    before = records.load(run)["setting"]
    assert before != {"optim.lr": 0.1}
    search(experiment, replace(wanted, trials=4), SearchOptions(seeds=(1,), resume=run))
    record = records.load(run)
    assert record["setting"] == {"optim.lr": 0.1}
    assert records.load(run / "best-1")["fields"]["optim"]["lr"] == 0.1
    assert records.load(run / "trial-1-seed-1")["fields"]["optim"]["lr"] == before["optim.lr"]
    assert record["confirmed"]["best"]["test/rmse"] == records.load(run / "best-1")["metrics"]["test/rmse"]


def test_half_a_line_in_the_journal(houses: Path) -> None:
    """As a kill within a write, or a full disk, leaves it."""
    experiment = Short(data_dir=houses)
    wanted = Search({"mlp.width": choice(*range(2, 12))}, trials=2, sampler="grid").checked(experiment)
    run = search(experiment, wanted)
    before = story(run)
    with open(run / "journal.log", "a", encoding="utf-8") as file:
        file.write('{"op_code": 5, "wor')
    assert story(run) == before
    search(experiment, replace(wanted, trials=3), SearchOptions(resume=run))
    assert story(run)[:2] == before
    assert len(story(run)) == 3


def test_a_trial_of_another_machine(houses: Path) -> None:
    """It is that one's while it gives signs of life, and anybody's when it gives none."""
    experiment = Short(data_dir=houses)
    wanted = replace(WIDTHS, trials=2).checked(experiment)
    run = search(experiment, replace(wanted, trials=1))
    first = Trials(run, experiment, wanted)
    taken = first.take()
    assert taken is not None
    trial, setting = taken
    other = {"host": "elsewhere", "pid": 1, "pid_started": 1.0}
    trial.set_user_attr("worker", other | {"since": time.time()})
    assert first.take() is None
    assert first.running()
    trial.set_user_attr("worker", other | {"since": time.time() - 2 * state.SILENT})
    again = first.take()
    assert again is not None
    assert (again[0].number, again[1]) == (trial.number, setting)
    first.do(*again)
    assert first.take() is None
    assert not first.running()
    searches.no_trial_is_lost_or_counted_twice(run, 2)


def test_a_run_that_was_done_when_its_process_was_killed(houses: Path) -> None:
    """Its value is told, and it is not run again."""
    experiment = Short(data_dir=houses)
    wanted = replace(WIDTHS, trials=1).checked(experiment)
    run = search(experiment, replace(wanted, trials=1))
    lines = (run / "journal.log").read_text(encoding="utf-8").splitlines(keepends=True)
    value, before = study_of(run).best_value, (run / "trial-1" / "run.json").read_bytes()
    told = next(number for number, line in enumerate(lines) if '"seconds"' in line)
    (run / "journal.log").write_text("".join(lines[:told]), encoding="utf-8")
    assert [one.state.name for one in study_of(run).get_trials()] == ["RUNNING"]
    search(experiment, wanted, SearchOptions(resume=run))
    assert study_of(run).best_value == value
    assert (run / "trial-1" / "run.json").read_bytes() == before


def test_flags_that_are_printed_are_read_back() -> None:
    experiment = with_fields(
        Houses(), {"compile": True, "deterministic": False, "data_dir": "a b.csv", "optim.unfreeze": True}
    )
    best = with_fields(experiment, {"mlp.width": 3, "patience": None, "optim.lr": 0.5})
    assert cli.parse(["searches.Houses", *config_flags.flags(best)]).experiments == [best]


def test_a_full_disk_ends_the_search_and_loses_nothing(houses: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = Short(data_dir=houses)
    wanted = Search({"mlp.width": choice(*range(2, 12))}, trials=3, sampler="grid").checked(experiment)
    saved = torch.save
    calls: list[int] = []

    def full(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) > 3:
            raise OSError(28, "No space left on device")
        saved(*arguments)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(InputError, match="No space left on device"):
        search(experiment, wanted)
    run = only_search()
    assert records.load(run)["state"] == "failed"
    monkeypatch.setattr(torch, "save", saved)
    search(experiment, wanted, SearchOptions(resume=run))
    searches.no_trial_is_lost_or_counted_twice(run, 3)
    assert all(one.state.name == "COMPLETE" for one in study_of(run).get_trials())


@pytest.mark.parametrize(
    ("fields", "space", "why"),
    [
        ({}, {"seed": choice(1, 2)}, "a seed chosen by its validation value"),
        ({}, {"monitor": choice("val/rmse", "val/mae")}, "two metrics"),
        ({"monitor": "test/rmse"}, {"mlp.width": choice(2, 4)}, "chooses by a validation metric"),
        ({"devices": "2"}, {"mlp.width": choice(2, 4)}, "a trial has one device"),
    ],
)
def test_what_cannot_be_searched(fields: dict[str, Any], space: dict[str, Any], why: str, houses: Path) -> None:
    experiment = Short(data_dir=houses, **fields)
    with pytest.raises(InputError, match=why):
        search(experiment, Search(space).checked(experiment))


def test_no_search(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no search \(it has no journal.log\)"):
        study_of(tmp_path)
