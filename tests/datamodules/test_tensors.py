"""Data in memory: rows are sliced whole, by key, and nothing is copied or collated one by one."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils._pytree import tree_flatten

from src.configs.spec import Target
from src.datamodules import ImageFolder, Tensors
from src.datamodules.capabilities import PredictsFiles, require
from src.experiment import DataSpec, InputError

SPEC = DataSpec(classes=("a", "b", "c"), input_shape=(2,))


def columns(count: int) -> dict[str, Tensor]:
    return {"x": torch.arange(2.0 * count).view(count, 2), "target": torch.arange(count) % 3}


@pytest.fixture
def data() -> Tensors:
    module = Tensors({"train": columns(11), "val": columns(5), "test": columns(4)}, SPEC, batch_size=4, seed=3)
    module.setup("fit")
    return module


@pytest.mark.parametrize("there", [True, False], ids=["GPU", "no GPU"])
def test_workers_and_pinned_memory(data: Tensors, images: Path, there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(accelerator="cpu", logger=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(there))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    folder = ImageFolder(images, image_size=16)
    folder.setup("fit")
    asked = Tensors({"train": columns(11)}, SPEC, num_workers=1)
    found = [
        (loader.num_workers, loader.pin_memory) for loader in (one.loader("train") for one in (data, folder, asked))
    ]
    assert found == [(0, there), (2 if there else 0, there), (1, there)]
    folder.trainer = trainer
    loader = folder.loader("train")
    assert (loader.num_workers, loader.pin_memory) == (0, False), "trained on the CPU of a machine with a GPU"


@pytest.mark.parametrize(
    ("cores", "gpus", "slurm", "workers"),
    [(4, 1, False, 4), (16, 4, False, 4), (64, 1, False, 8), (4, 4, True, 4), (1, 2, False, 0)],
    ids=["container", "shared", "large", "Slurm", "no core to spare"],
)
def test_workers_follow_the_cores_that_the_process_may_use(
    images: Path, cores: int, gpus: int, slurm: bool, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each task of Slurm has a GPU and cores of its own, however many GPUs it sees."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: range(cores))
    if slurm:
        monkeypatch.setenv("SLURM_NTASKS", "4")
    folder = ImageFolder(images, image_size=16)
    folder.setup("fit")
    assert folder.loader("train").num_workers == workers


def test_evaluation_gives_every_row_once_in_order(data: Tensors) -> None:
    batches = list(data.val_dataloader())
    assert [len(batch["target"]) for batch in batches] == [3, 2]
    for name, column in columns(5).items():
        assert torch.equal(torch.cat([batch[name] for batch in batches]), column)
    assert torch.cat([batch["index"] for batch in batches]).tolist() == [0, 1, 2, 3, 4]


def test_training_rows_belong_together_in_every_epoch(data: Tensors) -> None:
    whole, orders = columns(11), []
    for epoch in range(3):
        loader = data.train_dataloader()
        sampler = loader.sampler
        sampler.set_epoch(epoch)  # pyright: ignore[reportAttributeAccessIssue]
        batches = list(loader)
        assert [len(batch["index"]) for batch in batches] == [4, 4]
        for batch in batches:
            assert torch.equal(batch["x"], whole["x"][batch["index"]])
            assert torch.equal(batch["target"], whole["target"][batch["index"]])
        orders.append(tuple(torch.cat([batch["index"] for batch in batches]).tolist()))
    assert len(set(orders)) == 3


def test_order_follows_the_seed() -> None:
    def order(seed: int) -> list[int]:
        module = Tensors({"train": columns(30)}, SPEC, batch_size=10, seed=seed)
        return torch.cat([batch["index"] for batch in module.train_dataloader()]).tolist()

    assert order(1) == order(1) != order(2)


def test_names_sizes_and_classes_are_counted(data: Tensors) -> None:
    assert data.sizes() == {"train": 11, "val": 5, "test": 4}
    assert data.class_counts() == {
        "train": {"a": 4, "b": 4, "c": 3},
        "val": {"a": 2, "b": 2, "c": 1},
        "test": {"a": 2, "b": 1, "c": 1},
    }
    assert data.ids("val") == ["0", "1", "2", "3", "4"]
    named = Tensors({"train": columns(2)}, SPEC, ids={"train": ["x.jpg", "y.jpg"]})
    assert named.ids("train") == ["x.jpg", "y.jpg"]


def test_without_classes_nothing_is_counted() -> None:
    assert (
        Tensors({"train": columns(3)}, DataSpec(input_shape=(2,), target=Target(kind="regression"))).class_counts()
        == {}
    )


def test_without_a_test_split_the_test_is_refused() -> None:
    with pytest.raises(InputError, match="--test: tensors has no test split"):
        Tensors({"train": columns(3), "val": columns(3)}, SPEC).test_dataloader()


class Pair(NamedTuple):
    image: Tensor
    mask: Tensor


@pytest.mark.parametrize(
    "batch",
    [
        {"image": torch.ones(2), "index": torch.arange(2), "name": "flat"},
        {"views": {"left": torch.ones(2), "right": [torch.ones(3)]}, "target": torch.ones(2)},
        {"boxes": [torch.ones(2, 4), torch.ones(1, 4)], "target": torch.ones(2)},
        {"target": torch.ones(2), "error": {1: "does not open"}},
        [torch.ones(2), torch.ones(3)],
        (torch.ones(2), {"target": torch.ones(2)}),
        Pair(torch.ones(2), torch.ones(2)),
        torch.ones(2),
    ],
    ids=["flat dict", "nested dict", "dict of lists", "prediction", "list", "tuple", "named tuple", "tensor"],
)
def test_a_batch_of_any_make_is_moved(data: Tensors, batch: Any) -> None:
    moved = data.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert type(moved) is type(batch)
    before, after = (tree_flatten(each) for each in (batch, moved))
    assert after[1] == before[1], "its structure stays"
    for old, new in zip(before[0], after[0], strict=True):
        assert new.is_meta if isinstance(old, Tensor) else new == old


@pytest.mark.parametrize(("device", "asynchronous"), [("cuda", True), ("mps", False), ("xla", False)])
def test_only_a_copy_to_cuda_is_not_waited_for(
    data: Tensors, device: str, asynchronous: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(Tensor, "to", lambda self, to, *, non_blocking=False: asked.append(non_blocking))
    data.transfer_batch_to_device({"x": torch.ones(2), "name": "flat"}, torch.device(device), 0)
    assert asked == [asynchronous]


def test_the_data_set_pickles_for_workers(data: Tensors) -> None:
    dataset = data.dataset("val", train=False)
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[[2, 0]]["x"], dataset[[2, 0]]["x"])


def test_prediction_on_files_is_refused_by_name(data: Tensors) -> None:
    assert not isinstance(data, PredictsFiles)
    with pytest.raises(InputError, match="Tensors cannot predict on files"):
        require(data, PredictsFiles, "runs/X/1", "cannot predict on files.")
