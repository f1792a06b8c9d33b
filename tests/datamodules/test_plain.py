"""Data sets of one's own: any kind of target, the same examples after a resume, and what does not fit."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from src.datamodules import Fold, Plain
from src.experiment import InputError


class Rows(Dataset[Any]):
    """Yields a row and a target; the row has noise of all three generators."""

    def __init__(self, targets: list[Any], noise: float = 0.0) -> None:
        self.targets, self.noise = targets, noise

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: int) -> Any:
        noise = self.noise * (torch.rand(2) + random.random() + np.random.rand())
        return torch.tensor([i, 1.0]) + noise, self.targets[i]


class Dicts(Rows):
    def __getitem__(self, i: int) -> Any:
        row, target = super().__getitem__(i)
        return {"row": row, "number": i, "target": target}


def ready(*splits: Any, **arguments: Any) -> Plain:
    data = Plain(*splits, **arguments)
    data.setup("fit")
    return data


def batches(data: Plain, split: str = "train", *, epoch: int = 0, train: bool = True) -> list[dict[str, Any]]:
    loader: Any = data.loader(split, train=train)
    loader.sampler.set_epoch(epoch)
    return list(loader)


@pytest.mark.parametrize(
    ("targets", "arguments", "kind", "classes"),
    [
        ([0, 1, 2] * 4, {"classes": ("a", "b", "c")}, "single_label", ("a", "b", "c")),
        ([0, 1, 2] * 4, {"classes": 3}, "single_label", ("0", "1", "2")),
        ([0.5, 1.5, 2.5] * 4, {}, "regression", ()),
        ([[1, 0], [0, 0], [1, 1]] * 4, {"classes": 2}, "multi_label", ("0", "1")),
        ([0, 1, 2] * 4, {"target_kind": "regression"}, "regression", ()),
    ],
)
@pytest.mark.parametrize("tensors", [False, True])
def test_the_kind_of_target(
    targets: list[Any], arguments: dict[str, Any], kind: str, classes: tuple[str, ...], tensors: bool
) -> None:
    values: Any = torch.tensor(targets)
    source: Any = (torch.rand(12, 2), values) if tensors else Rows(list(values))
    data = ready(source, source, **arguments)
    assert data.spec.target.kind == kind
    assert data.spec.classes == classes
    assert data.spec.input_shape == (2,)
    (batch,) = batches(data)
    assert set(batch) == {"input", "target", "index"}
    assert torch.equal(batch["target"], values[batch["index"]])


def test_tensors_tell_their_classes_counts_and_scale() -> None:
    inputs = torch.rand(6, 2)
    data = ready((inputs, torch.tensor([0, 1, 2, 2, 2, 1])), (inputs[:1], torch.tensor([1])))
    assert data.spec.classes == ("0", "1", "2")
    assert data.spec.class_counts == (1, 2, 3)
    numbers = ready((inputs, torch.arange(6.0)[:, None]), (inputs[:1], torch.zeros(1, 1)))
    assert numbers.spec.target.mean == 2.5
    assert numbers.spec.target.std == pytest.approx(np.arange(6).std())
    assert numbers.targets("train").shape == (6,)


def test_a_dict_is_taken_with_all_but_its_target_as_input() -> None:
    (batch,) = batches(ready(Dicts([0, 1] * 3), Dicts([0, 1]), classes=2))
    assert set(batch["input"]) == {"row", "number"}
    assert torch.equal(batch["input"]["number"], batch["index"])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_what_a_data_set_draws_depends_on_seed_epoch_and_example_alone(num_workers: int) -> None:
    def rows(epoch: int, seed: int = 0, batch_size: int = 4) -> dict[int, list[float]]:
        data = ready(
            Rows([0, 1] * 8, 1.0), Rows([0, 1]), classes=2, batch_size=batch_size, seed=seed, num_workers=workers
        )
        torch.rand(random.randrange(5))  # random numbers drawn before change nothing
        found = batches(data, epoch=epoch)
        return {int(i): row.tolist() for batch in found for i, row in zip(batch["index"], batch["input"], strict=True)}

    workers = 0
    first = rows(1)
    workers = num_workers
    assert rows(1) == first
    assert rows(1, batch_size=2) == first
    assert rows(2)[0] != first[0]
    assert rows(1, seed=1)[0] != first[0]


def test_fetching_leaves_the_training_s_generators_alone() -> None:
    data = ready(Rows([0, 1] * 8, 1.0), Rows([0, 1]), classes=2)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    batches(data)
    assert torch.equal(torch.rand(3), expected)


def test_the_fingerprint_is_that_of_the_data() -> None:
    def fingerprint(targets: list[int]) -> str:
        return ready(Rows(targets, 1.0), Rows([0, 1]), classes=2).fingerprint

    assert fingerprint([0, 1, 1]) == fingerprint([0, 1, 1])
    assert len({fingerprint(targets) for targets in ([0, 1, 1], [0, 1, 0], [0, 1, 1, 1])}) == 3


def test_folds_divide_train_and_keep_val() -> None:
    tested: list[int] = []
    for number in (1, 2, 3):
        data = Plain(
            (torch.arange(12.0)[:, None], torch.arange(12) % 2), (torch.rand(4, 1), torch.tensor([0, 1, 0, 1]))
        )
        data.fold = Fold(number, 3)
        data.setup("fit")
        assert data.sizes() == {"train": 8, "val": 4, "test": 4}
        (batch,) = batches(data, "test", train=False)
        assert batch["target"].sum() == 2, "stratified"
        tested += batch["input"][:, 0].int().tolist()
        assert data.ids("test") == [str(int(value)) for value in batch["input"][:, 0]]
    assert sorted(tested) == list(range(12))


class Triples(Rows):
    def __getitem__(self, i: int) -> Any:
        return (*super().__getitem__(i), 0)


@pytest.mark.parametrize(
    ("splits", "arguments", "message"),
    [
        ((Rows([0, 1]), Rows([])), {"classes": 2}, "Plain: val has no examples"),
        ((Rows([0, 1]), Rows([0])), {}, r"say which classes there are: classes=10"),
        ((Triples([0, 1]), Rows([0])), {"classes": 2}, r"is a tuple of 3. It has to be \(input, target\), or a dict"),
        ((Rows([0, 1]), Rows([0, 2])), {"classes": 2}, "Plain, val: a target is 2, but the 2 classes"),
        ((Rows([0, 1]), Rows([0, -1])), {"classes": 2}, "Plain, val: a target is -1, but the 2 classes"),
        (((torch.rand(9, 1), torch.arange(9) // 8 * 5),) * 2, {"classes": 2}, "Plain, train: a target is 5, but the 2"),
        (
            ((torch.rand(2, 1), torch.ones(2, 3)),) * 2,
            {"classes": 2},
            "Plain, train: 3 labels an example, but classes has 2",
        ),
        ((Rows(["a", "b"]), Rows(["a"])), {"classes": 2}, "a batch's targets are a list, but single_label needs 1 dim"),
    ],
)
def test_what_does_not_fit_is_refused(splits: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ready(*splits, **arguments)
