"""Any validation metric may choose the checkpoint: as a flag, checked before training, and shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.tables import TableClassification
from src import cli
from src.cli.commands import run_all
from src.experiment import InputError
from src.runs import records
from src.training import runner


def flags(houses: Path, *more: str) -> list[str]:
    place = ["experiments/tables.py:TableClassification", "--data-dir", str(houses), "--target", "size"]
    return [*place, "--max-epochs", "2", *more]


def test_a_flag_chooses_and_is_shown(houses: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = cli.parse(flags(houses, "--monitor", "val/f1", "--mode", "max", "--patience", "5"))
    assert run_all(command.experiments, command.flags) == 0
    (path,) = tmp_path.glob("runs/*/*/run.json")
    record = records.load(path.parent)
    scores = [value for _, _, name, value in records.metrics(path.parent) if name == "val/f1"]
    assert (record["best"]["name"], record["best"]["value"]) == ("val/f1", max(scores))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert len(lines) == 2
    assert all(f"val/f1 {score:.4f}" in line for line, score in zip(lines, scores, strict=True))


@pytest.mark.parametrize("more", [(), ("--patience", "1")])
def test_an_unknown_one_is_refused_before_training(
    houses: Path, tmp_path: Path, more: tuple[str, ...], quiet: None
) -> None:
    command = cli.parse(flags(houses, "--monitor", "val/f2", *more))
    with pytest.raises(InputError, match=r"--monitor val/f2: no such metric\. Did you mean val/f1\? There: .*val/loss"):
        runner.run(command.experiments[0])
    (path,) = tmp_path.glob("runs/*/*/run.json")
    assert records.load(path.parent)["state"] == "failed"
    assert records.metrics(path.parent) == []


class Mistaken(TableClassification):
    """Has a monitor of its own, which is not there."""

    monitor = "val/accuracy"


def test_a_classs_own_mistake_is_refused_after_the_first_validation(houses: Path, tmp_path: Path, quiet: None) -> None:
    with pytest.raises(InputError, match=r"--monitor val/accuracy: no such metric"):
        runner.run(Mistaken(data_dir=houses, target="size", max_epochs=2))
    (path,) = tmp_path.glob("runs/*/*/run.json")
    assert {epoch for epoch, *_ in records.metrics(path.parent)} <= {1}
