"""Every experiment that is shipped trains for two steps, by glob."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Script, Tiny

from src.experiment import Experiment
from src.loading import load
from src.runs import records
from src.studies.reproduce import differences
from src.training import runner
from src.training.trainer import quieten

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
                found += [kind] if complete and kind not in found else []  # a default has two names
    return found


COMPARED = [load(str(ROOT / "experiments" / f"{name}.py")) for name in ("digits", "images", "tables", "texts")]
"""One experiment of each kind of data."""
OTHERS = [kind for kind in experiments() if kind not in COMPARED]


def trained(kind: type[Experiment], tiny: Tiny, **fields: Any) -> Path:
    """Train for two steps and return the run, which is complete."""
    quieten()
    run = runner.run(kind(max_epochs=1, limit_train_batches=2, **tiny(kind), **fields))
    record = records.load(run)
    assert record["state"] == "done"
    assert record["experiment"] == kind.dotted_name()
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 2
    assert record["best"]["name"] == record["fields"]["monitor"]
    assert (run / "predictions_val.csv").is_file()
    return run


@pytest.mark.parametrize("kind", OTHERS, ids=lambda kind: kind.__name__)
def test_trains_two_steps(kind: type[Experiment], tiny: Tiny) -> None:
    trained(kind, tiny)


@pytest.mark.parametrize(
    "kind",
    [*COMPARED, *(pytest.param(kind, marks=pytest.mark.slow) for kind in OTHERS)],
    ids=lambda kind: kind.__name__,
)
def test_gives_the_same_numbers_to_the_bit_whoever_loads_the_data(kind: type[Experiment], tiny: Tiny) -> None:
    assert differences(trained(kind, tiny), trained(kind, tiny, num_workers=2)) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_has_a_default_that_runs(path: Path) -> None:
    assert load(str(path)) in experiments()


PACKAGED = ("breast_cancer", "diabetes", "digits", "linear_regression")
"""Files whose default data need not be drawn, decoded or counted."""


@pytest.mark.parametrize(
    "files",
    [[path for path in FILES if path.stem in PACKAGED], pytest.param(FILES, marks=pytest.mark.slow)],
    ids=["packaged", "all"],
)
def test_dry_run_on_the_default_data(script: Script, tmp_path: Path, files: list[Path]) -> None:
    done = script("run.py", *files, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for path in files:
        assert f"{load(str(path)).__name__}, seed 0" in done.stdout
    assert done.stdout.count("none (dry run)") == len(files) > 0
    assert not (tmp_path / "runs").exists()
