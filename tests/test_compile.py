"""`--compile`: what trains is compiled, and a bounded number of times however many shapes the batches have."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo
from conftest import Tiny
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from experiments.cats_dogs_finetune import CatsDogsProbe, CatsDogsScratch
from experiments.texts import TextsBert, TextsLstm
from src.experiment import DataSpec, Experiment
from src.models.texts import attention
from src.runs import records
from src.training import runner
from src.training.trainer import quieten


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Compile to what was there before, and write down the nodes of each graph."""
    found: list[int] = []

    def backend(graph: Any, example_inputs: Any) -> Any:
        found.append(len(graph.graph.nodes))
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    torch._dynamo.reset()
    quieten()
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        yield found
    torch._dynamo.reset()


def weights(run: Path) -> dict[str, Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.parametrize("kind", [CatsDogsScratch, CatsDogsProbe], ids=lambda kind: kind.__name__)
def test_what_trains_is_compiled(kind: type[Experiment], tiny: Tiny, compilations: list[int]) -> None:
    """The network, or the head where only that runs; the last batch of an epoch may be smaller."""
    fields = tiny(kind) | {"max_epochs": 2, "batch_size": 5, "precision": "32-true"}
    alone = weights(runner.run(kind(**fields)))
    assert not compilations
    found = weights(runner.run(kind(**fields, compile=True)))
    assert 1 <= len(compilations) <= 6
    assert found.keys() == alone.keys()
    assert all(torch.equal(value, alone[name]) for name, value in found.items())


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's, around nn.LSTM
@pytest.mark.parametrize(
    ("kind", "precision", "most"),
    [
        pytest.param(TextsLstm, "32-true", 12, marks=pytest.mark.slow),
        pytest.param(TextsBert, "32-true", 3, marks=pytest.mark.slow),
        (TextsBert, "bf16-mixed", 3),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_lengths_do_not_compile_anew(
    kind: type[Experiment],
    precision: str,
    most: int,
    tiny: Tiny,
    compilations: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another length each batch, in batches of 7 and a last one of 3."""
    monkeypatch.setattr(attention, "SCORES", 2000)  # as few examples at a time as of long texts
    fields = tiny(kind) | {"batch_size": 7, "precision": precision, "compile": True}
    runner.run(kind(**fields, max_epochs=1))
    first = len(compilations)
    assert 1 <= first <= most
    compilations.clear()
    torch._dynamo.reset()
    runner.run(kind(**fields, max_epochs=4))
    assert len(compilations) == first, "none for all the batches of the later epochs"


class Own(LightningModule):
    """As in Lightning's documentation: no `forward`."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.layer(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class OwnData(LightningDataModule):
    """Two batches."""

    def train_dataloader(self) -> DataLoader[Any]:
        drawn = torch.Generator().manual_seed(0)
        return DataLoader(
            TensorDataset(torch.randn(8, 4, generator=drawn), torch.arange(8) % 2), batch_size=4, shuffle=True
        )


class OwnParts(Experiment):
    """A module of one's own."""

    max_epochs = 1
    accelerator = "cpu"
    precision = "32-true"

    def datamodule(self) -> Any:
        return OwnData()

    def task(self, spec: DataSpec) -> Any:
        return Own()


@pytest.mark.parametrize("averaging", ["none", "ema"])
def test_the_steps_of_a_module_of_ones_own_are_compiled(averaging: Any, compilations: list[int]) -> None:
    alone = weights(runner.run(OwnParts(averaging=averaging)))
    assert not compilations
    run = runner.run(OwnParts(averaging=averaging, compile=True))
    assert compilations
    assert records.load(run)["model"]["name"] == "Own"
    found = weights(run)
    assert all(torch.equal(value, alone[name]) for name, value in found.items())
