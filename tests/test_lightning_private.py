"""Lightning's private names: used in one file, and what each of them does there."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

from src.callbacks import lightning_private
from src.training.trainer import quieten

ROOT = Path(__file__).resolve().parents[1]
OTHERS = {
    "src/datamodules/images/cats_dogs.py": {
        "_base_folder",
        "_images",
        "_images_folder",
        "_bin_labels",
        "_RESOURCES",
    },  # torchvision's
    "src/cli/parser.py": {"_experimental_options"},  # tyro's
    "src/datamodules/base.py": {"_exit"},  # of os
    "src/deploy/executorch_format.py": {"_unsafe_reset_threadpool"},  # executorch's
    "src/deploy/onnx_format.py": {"_attn_implementation", "_dispatch_cache"},  # transformers'; torch's
    "src/models/images/resnet.py": {"_no_weight_decay", "_BatchNorm"},  # ours, on parameters; torch's
    "src/explain/texts.py": {"_attn_implementation"},  # transformers'
    "src/models/tables/boosting.py": {"_predictors", "_baseline_prediction"},  # scikit-learn's
    "src/studies/earlier_runs.py": {"_contains"},  # Optuna's
    "src/studies/search.py": {"_trial_id"},  # Optuna's
    "src/studies/trials.py": {"_trial_id"},  # Optuna's
    "src/models/texts/bert.py": {"_attn_implementation"},  # transformers'
    "src/runs/tensorboard.py": {"_get_file_writer"},  # torch's
    "src/tasks/epoch_so_far.py": {"_defaults", "_reductions"},  # torchmetrics'
    "src/training/peers.py": {"_exit"},  # of os
    "src/training/precision.py": {"_step"},  # our Task's
    "src/tasks/optim.py": {"_step_supports_amp_scaling"},  # torch's
}
"""Private names of other libraries, or our own on their objects."""
PUBLIC = {"_asdict", "_fields", "_replace"}
"""Documented, of named tuples."""


def of_others(text: str) -> set[str]:
    """Return the private attributes that a text looks up and nowhere defines."""
    tree = ast.parse(text)
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    looked_up: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            of_self = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if of_self and isinstance(node.ctx, ast.Store):
                own.add(node.attr)
            looked_up.add(node.attr)
        if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("src"):
            looked_up |= {name.name for name in node.names if name.name.startswith("_")}
    return looked_up - own - PUBLIC


def test_they_stand_in_one_file() -> None:
    found = {
        str(path.relative_to(ROOT)): of_others(path.read_text(encoding="utf-8")) for path in ROOT.glob("src/**/*.py")
    }
    here = found.pop("src/callbacks/lightning_private.py")
    assert here == {"_data_fetcher", "_device", "_average_model", "_experiment", "_SubprocessScriptLauncher"}
    left = {path: names - OTHERS.get(path, set()) for path, names in found.items()}
    assert not any(names & here for names in found.values())
    assert {path: names for path, names in left.items() if names} == {}


def test_one_elsewhere_is_found() -> None:
    assert of_others("def f(trainer):\n    return trainer.fit_loop._data_fetcher\n") == {"_data_fetcher"}
    assert of_others("from lightning.pytorch import _Launcher\n") == {"_Launcher"}
    assert of_others("class A(B):\n    def f(self):\n        return self._theirs\n") == {"_theirs"}
    assert (
        of_others("class A:\n    def f(self):\n        self._own = 1\n        return self._g()\n    def _g(self): ...")
        == set()
    )


class Linear(LightningModule):
    """One weight."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.layer(batch).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Counted(DataLoader[Tensor]):
    """Counts how often it was begun."""

    begun = 0

    def __iter__(self) -> Any:
        self.begun += 1
        return super().__iter__()


class Restarts(Callback):
    """As a run that goes on."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        lightning_private.restart_loader(trainer)


@pytest.mark.parametrize("callbacks", [[], [Restarts()]], ids=["left alone", "restarted"])
def test_restart_loader(callbacks: list[Callback]) -> None:
    quieten()
    loader = Counted(torch.ones(3, 1), batch_size=1)  # pyright: ignore[reportArgumentType]
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Linear(), loader)
    assert loader.begun == 1 + len(callbacks)
    assert trainer.global_step == 3, "each batch once"


def test_average_is_where_it_was_put() -> None:
    callback, trainer = WeightAveraging(), Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    assert lightning_private.average_of(callback) is None
    lightning_private.keep_average_on(callback, torch.device("meta"))
    callback.setup(trainer, Linear(), "fit")
    average = lightning_private.average_of(callback)
    assert average is not None
    assert {parameter.device.type for parameter in average.parameters()} == {"meta"}
    assert average.n_averaged.shape == ()


def test_is_connected(tmp_path: Path) -> None:
    assert not lightning_private.is_connected(WandbLogger(save_dir=tmp_path, offline=True))
    begun: Any = type("Run", (), {"_attach_id": None, "_label": lambda self, **_: None})()
    assert lightning_private.is_connected(WandbLogger(save_dir=tmp_path, experiment=begun))


def test_what_starts_other_processes() -> None:
    two = Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_checkpointing=False)
    found = lightning_private.starter(two)
    assert found is not None
    assert found.procs == []
    assert (
        lightning_private.starter(Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False))
        is None
    )
