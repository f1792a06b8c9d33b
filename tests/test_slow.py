"""What takes minutes: the main experiment in full, and a compiled model. Run by `make test-slow`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Script

pytestmark = pytest.mark.slow


def test_main_experiment_reaches_its_score_on_drawn_pictures(script: Script, tmp_path: Path) -> None:
    done = script("run.py", "experiments/cats_dogs_finetune.py", "--source", "drawn", fresh=True)
    assert done.returncode == 0, done.stderr
    [path] = (tmp_path / "runs" / "CatsDogsFinetune").glob("*/run.json")
    record = json.loads(path.read_text())
    assert record["data"]["stand_in"]
    assert record["best"]["value"] >= 0.97


def test_drawn_pictures_are_learnable_but_not_by_a_line(script: Script, tmp_path: Path) -> None:
    done = script(
        "run.py", "experiments/cats_dogs_finetune.py:CatsDogsScratch", "--source", "drawn", "--baselines", "--test"
    )
    assert done.returncode == 0, done.stderr
    [path] = (tmp_path / "runs" / "CatsDogsScratch").glob("*/run.json")
    record = json.loads(path.read_text())
    assert record["metrics"]["test/acc"] >= 0.90
    assert record["baselines"]["logistic regression on grey pixels"]["test/acc"] < 0.80


def test_compiled_model_trains_and_its_checkpoint_loads_uncompiled(
    script: Script, tmp_path: Path, images: Path
) -> None:
    flags = ("--image-size", "32", "--max-epochs", "1", "--data-dir", images, "--compile")
    done = script("run.py", "experiments/cats_dogs_finetune.py:CatsDogsScratch", *flags, fresh=True)
    assert done.returncode == 0, done.stderr
    [run] = (tmp_path / "runs" / "CatsDogsScratch").iterdir()
    predicted = script("predict.py", run, images / "val", fresh=True)
    assert predicted.returncode == 0, predicted.stderr
    assert len(predicted.stdout.splitlines()) == 9
