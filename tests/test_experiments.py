"""Every experiment that is shipped trains for two steps, by glob."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import pytest
import torch
from conftest import Script, Tiny

from src import records, runner
from src.experiment import Experiment, load
from src.reproduction import differences
from src.trainer import quieten

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path for path in (ROOT / "experiments").glob("*.py") if path.name != "__init__.py")


def experiments() -> list[type[Experiment]]:
    """Return every class in experiments/ that builds both its parts; the others are shared bases."""
    found: list[type[Experiment]] = []
    for path in FILES:
        module = importlib.import_module(f"experiments.{path.stem}")
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, Experiment) and kind.__module__ == module.__name__:
                complete = kind.datamodule is not Experiment.datamodule and kind.task is not Experiment.task
                found += [kind] if complete else []
    return found


@pytest.mark.parametrize("kind", experiments(), ids=lambda kind: kind.__name__)
def test_trains_two_steps(kind: type[Experiment], tiny: Tiny) -> None:
    quieten()
    asked = kind(max_epochs=1, limit_train_batches=2, **tiny(kind))
    run = runner.run(asked)
    record = records.load(run)
    assert record["state"] == "done"
    assert record["experiment"] == kind.dotted_name()
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 2
    assert record["best"]["name"] == kind.monitor
    assert (run / "predictions_val.csv").is_file()
    again = runner.run(dataclasses.replace(asked, num_workers=2))
    assert differences(run, again) == [], "the same numbers to the bit, whoever loads the data"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_has_a_default_that_runs(path: Path) -> None:
    assert load(str(path)) in experiments()


def test_dry_run_of_all(script: Script, tmp_path: Path) -> None:
    done = script("run.py", *FILES, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for path in FILES:
        assert f"{load(str(path)).__name__}, seed 0" in done.stdout
    assert done.stdout.count("none (dry run)") == len(FILES)
    assert not (tmp_path / "runs").exists()
