"""`--reproduce`: the same run once more, and what is said where it is not the same."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kills
import pytest
import torch
from kills import Numbers

from src import cli
from src.cli import commands
from src.experiment import InputError
from src.runs import records, state
from src.studies.cross_validation import cross_validate
from src.studies.ensemble import ensemble
from src.studies.reproduce import differences
from src.training import runner
from src.training.options import RunOptions

pytestmark = pytest.mark.usefixtures("quiet")


class Drift(kills.Callback):
    """Adds to the weights what nobody has seeded."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        with torch.no_grad():
            next(pl_module.parameters()).add_(1e-3 * random.SystemRandom().random())


class Drifts(Numbers):
    """Is no two times the same."""

    def callbacks(self) -> list[kills.Callback]:
        return [Drift()]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return kills.write_table(tmp_path / "table.csv")


def reproduce(run: Path, *flags: str) -> int:
    command = cli.parse([*flags, "--reproduce", str(run)])
    return commands.run_all(command.experiments, command.flags)


def others(run: Path) -> list[Path]:
    return [path.parent for path in records.runs_dir().glob("*/*/run.json") if path.parent != run]


def test_the_same_numbers(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = runner.run(Numbers(data_dir=table, seed=3, max_epochs=2), RunOptions(test=True))
    before = (run / "run.json").read_bytes()
    capsys.readouterr()
    assert reproduce(run) == 0
    shown = capsys.readouterr().out
    assert f"reproduced {run}: {len(records.metrics(run))} logged values, weights and predictions are equal" in shown
    (other,) = others(run)
    record = records.load(other)
    assert record["fields"] == records.load(run)["fields"]
    assert record["reproduction"]["of"] == str(run)
    assert record["reproduction"]["differences"] == []
    assert record["tests_read"] == 0
    assert (run / "run.json").read_bytes() == before, "the original is as it was"
    assert "to the bit" in record["reproducible"]


def test_other_numbers_are_shown_and_fail(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = runner.run(Drifts(data_dir=table, max_epochs=1))
    records.Record.read(run).update(git=records.load(run)["git"] | {"commit": "0" * 40}, versions={"torch": "1.13"})
    capsys.readouterr()
    assert reproduce(run) == 1
    shown = capsys.readouterr().out
    for said in ("logged values, the first at step", "val/loss", "predictions_val.csv", "tensors of weights"):
        assert said in shown
    assert "git checkout 0000000000" in shown
    assert f"torch {importlib.metadata.version('torch')}, then 1.13" in shown
    (other,) = others(run)
    assert records.load(other)["reproduction"]["differences"]


@pytest.mark.parametrize("study", [cross_validate, ensemble])
def test_a_run_with_children_and_a_fold_of_it(
    study: Callable[[Numbers, int], Path], table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parent = study(Numbers(data_dir=table, max_epochs=1), 2)
    assert reproduce(parent) == 0
    assert f"reproduced {parent}: " in capsys.readouterr().out
    (again,) = others(parent)
    assert records.load(again)["reproduction"]["differences"] == []
    second = state.children(parent)[1]
    kept = records.load(second)
    assert reproduce(second) == 0
    (alone,) = (run for run in others(parent) if run != again)
    assert records.load(alone)["metrics"].items() >= kept["metrics"].items()
    assert records.load(alone).get("fold") == kept.get("fold")
    rows = (second / "predictions_val.csv").read_text(encoding="utf-8").splitlines()
    rows[1] = rows[1][:-1] + ("1" if rows[1][-1] != "1" else "2")
    (second / "predictions_val.csv").write_text("\n".join(rows), encoding="utf-8")
    assert reproduce(parent) == 1
    assert f"{second.name}: predictions_val.csv" in capsys.readouterr().out


def test_other_data_are_refused(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = runner.run(Numbers(data_dir=table, max_epochs=1))
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    table.write_text("".join(lines[:-1]), encoding="utf-8")
    assert reproduce(run) == 1
    assert f"{run}: the data has changed" in capsys.readouterr().err


def test_only_a_finished_run_can_be_reproduced(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = runner.run(Numbers(data_dir=table, max_epochs=1))
    records.Record.read(run).update(state="interrupted")
    assert reproduce(run) == 1
    assert "that run is interrupted" in capsys.readouterr().err
    assert not others(run)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--max-epochs", "3"], "takes every field from the run"),
        (["--seed", "1"], "takes every field from the run"),
        (["--seeds", "1", "2"], "takes every field from the run"),
        (["--folds", "3"], "takes every field from the run"),
    ],
)
def test_no_other_fields(table: Path, flags: list[str], said: str) -> None:
    run = runner.run(Numbers(data_dir=table, max_epochs=1))
    with pytest.raises(InputError, match=said):
        cli.parse(["--reproduce", str(run), *flags])
    with pytest.raises(InputError, match=r"that is a run of kills.Numbers, not of experiments/diabetes.py"):
        cli.parse(["experiments/diabetes.py", f"--reproduce={run}"])


def test_a_difference_of_one_bit_is_seen(table: Path, tmp_path: Path) -> None:
    run = runner.run(Numbers(data_dir=table, max_epochs=1))
    other = shutil.copytree(run, tmp_path / "copy")
    assert differences(run, other) == []
    path = other / "checkpoints" / "last.ckpt"
    state = torch.load(path, weights_only=True)
    name, value = next((name, value) for name, value in state["state_dict"].items() if value.numel())
    value.view(-1)[0] = torch.nextafter(value.view(-1)[0], torch.tensor(float("inf")))
    torch.save(state, path)
    assert differences(run, other) == [f"1 of {len(state['state_dict'])} tensors of weights, {name} first"]


def test_where_additions_have_no_order_a_tolerance_is_stated(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = runner.run(Drifts(data_dir=table, max_epochs=1))
    records.Record.read(run).update(reproducible="up to rounding: cuda adds in any order")
    capsys.readouterr()
    assert reproduce(run) == 0
    assert "metrics are equal within 5% or 0.01; additions have no order there, so that weights, predictions" in (
        capsys.readouterr().out
    )
    (other,) = others(run)
    record = records.Record.read(other)
    metrics = {name: value * (1.2 if name == "val/rmse" else 1.0001) for name, value in record["metrics"].items()}
    record.update(metrics=metrics)
    (found,) = differences(run, other)
    assert found.startswith("val/rmse ")
    records.Record.read(run).update(reproducible=record["reproducible"])
    assert len(differences(run, other)) > 1, "the premise: to the bit, all differ"


def test_two_processes_learn_what_one_does_but_for_rounding(table: Path) -> None:
    """The same examples a step, the same dropout-free network: only sums are added in another order. One process has an
    example of validation more than the other.
    """
    table.write_text("".join(table.read_text(encoding="utf-8").splitlines(keepends=True)[:180]), encoding="utf-8")
    plain = Numbers(
        data_dir=table, max_epochs=2, accumulate=1, mlp=kills.Perceptron(width=16, dropout=0.0), precision="32-true"
    )
    alone = runner.run(dataclasses.replace(plain, batch_size=16))
    both = dataclasses.replace(plain, batch_size=8, devices="2", strategy="ddp_fork")
    assert kills.in_process(kills.train, both) == 0
    (shared,) = others(alone)
    assert records.load(shared)["device"] == "cpu x 2"
    assert records.load(shared)["data"]["sizes"]["val"] % 2, "the premise"
    one, two = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (alone, shared))
    assert one["global_step"] == two["global_step"]
    for name, value in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][name], value, rtol=1e-4, atol=1e-5)
    first, second = (
        {(name, step): value for _, step, name, value in records.metrics(run) if name in ("train/loss", "val/loss")}
        for run in (alone, shared)
    )
    assert first.keys() == second.keys()
    assert second == pytest.approx(first, rel=1e-4)
