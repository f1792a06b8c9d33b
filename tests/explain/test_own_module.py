"""A module of the user's own, README's: the refusal says what explains it, and docs/explain.md's recipe runs."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import captum.attr
import pytest
import torch
from conftest import ROOT
from test_readme import definitions

import leyden
from src import datamodules, tasks
from src.configs.errors import InputError
from src.experiment import ClassificationExperiment, DataSpec
from src.loading import load
from src.resources.weights_files import load_weights
from src.training import runner


class OnPlain(ClassificationExperiment):
    """A network on a dataset of one's own."""

    def datamodule(self) -> datamodules.Plain:
        rows = [(torch.randn(3), number % 2) for number in range(40)]
        return datamodules.Plain(rows[:20], rows[20:], classes=2, seed=self.seed)  # pyright: ignore[reportArgumentType]

    def task(self, spec: DataSpec) -> tasks.Task:
        return tasks.Task(torch.nn.Linear(3, 2), self.objective(spec), tasks.inputs.PlainInput())


pytestmark = pytest.mark.usefixtures("quiet")


def test_a_network_on_plain_datasets_is_told_what_explains_it() -> None:
    run = leyden.Run(runner.run(OnPlain(max_epochs=1, accelerator="cpu", logger=())))
    with pytest.raises(InputError, match="Plain cannot read inputs to predict") as error:
        run.explain(["a.png"])
    (code,) = re.findall(r"(captum.attr.*?target=1\))", str(error.value))
    names = {"captum": captum, "leyden": leyden, "inputs": torch.rand(2, 3)}
    assert eval(code, names).shape == (2, 3)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[leyden.Run]:
    (text,) = (block.text for block in definitions() if "class MyLightning(" in block.text)
    path = ROOT / "experiments" / f"zz_explained_{os.getpid()}.py"
    path.write_text(text)
    try:
        experiment = load(f"{path}:MyLightning")(max_epochs=1, limit_train_batches=2, accelerator="cpu", logger=())
        yield leyden.Run(runner.run(experiment))
    finally:
        path.unlink()


def test_a_module_of_ones_own_is_explained_by_captum_as_the_page_of_docs_has_it(own: leyden.Run) -> None:
    with pytest.raises(InputError) as error:
        own.explain(["a.png"])
    said = f"captum.attr.IntegratedGradients(leyden.load({str(own.path)!r}).model()).attribute(inputs, target=1)"
    assert said in str(error.value)
    text = (ROOT / "docs" / "explain.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(import torch\n.*?)```", text, re.DOTALL)
    assert "runs/MyLightning/<id>" in code
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code.replace("runs/MyLightning/<id>", str(own.path)), names)
    assert "[4, 64]" in printed.getvalue()
    assert names["missed"].abs().max() < 1e-3
    assert not names["module"].training
    weights = load_weights(own.path / "checkpoints" / "best.ckpt")["state_dict"]
    assert all(torch.equal(weights[name], value) for name, value in names["module"].state_dict().items())
