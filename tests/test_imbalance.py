"""Rare classes: the losses by hand, the balanced batches' promises, and what each experiment does with the field."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from conftest import TINY, Script
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss
from typing_extensions import override

from experiments.digits import DigitsCNN
from experiments.images import Images
from experiments.tables import TableClassification, TableLogistic, TableRegression
from experiments.texts import TextsLstm
from src.datamodules import Balanced, Batches, Tensors
from src.experiment import DataSpec, Imbalance, InputError, Optim, TextPrep, from_json
from src.models import Linear
from src.runs import records
from src.tasks import SingleLabel, TabularClassification, Task
from src.tasks.inputs import TableInput
from src.tasks.objectives.imbalance import class_weights, imbalanced_loss, log_prior
from src.training import build, runner
from src.training.trainer import quieten

METHODS: tuple[Imbalance, ...] = get_args(Imbalance)
COUNTS = torch.tensor([90.0, 9.0, 1.0])


def batch(count: int = 50) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, generator=generator) * 3, torch.randint(3, (count,), generator=generator)


# -------------------------------------------------------------------------------------------------------------- losses
def test_class_weights_are_sklearns_and_of_mean_one() -> None:
    targets = np.repeat([0, 1, 2], COUNTS.int().numpy())
    expected = compute_class_weight("balanced", classes=np.arange(3), y=targets)
    assert class_weights(COUNTS).numpy() == pytest.approx(expected, rel=1e-6)
    assert class_weights(COUNTS)[targets].mean().item() == pytest.approx(1)


def test_a_class_without_examples_is_no_infinity() -> None:
    counts = torch.tensor([3.0, 0.0, 1.0])
    assert class_weights(counts).tolist() == pytest.approx([2 / 3, 0, 2])
    assert log_prior(counts).isfinite().all()


def test_weights_by_hand() -> None:
    logits, target = batch()
    weights = (100 / 3 / COUNTS)[target]
    expected = -(weights * logits.log_softmax(1)[range(50), target]).mean()
    assert imbalanced_loss("weights", logits, target, COUNTS).item() == pytest.approx(expected.item(), rel=1e-5)


def test_focal_by_hand() -> None:
    logits, target = batch()
    p = logits.softmax(1)[range(50), target]
    assert imbalanced_loss("focal", logits, target, COUNTS).item() == pytest.approx(
        (-((1 - p) ** 2) * p.log()).mean().item(), rel=1e-5
    )


def test_focal_of_two_classes_is_torchvisions() -> None:
    logits, target = batch()[0][:, :2], batch()[1] % 2
    expected = sigmoid_focal_loss(logits[:, 1] - logits[:, 0], target.float(), alpha=-1, gamma=2, reduction="mean")
    found = imbalanced_loss("focal", logits, target, COUNTS[:2])
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_focal_has_a_gradient_where_a_prediction_is_certain() -> None:
    logits = torch.tensor([[200.0, -200.0, 0.0]], requires_grad=True)
    imbalanced_loss("focal", logits, torch.tensor([0]), COUNTS).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_logit_adjust_by_hand() -> None:
    logits, target = batch()
    share = COUNTS / 100
    expected = -(logits.exp() * share / (logits.exp() * share).sum(1, keepdim=True))[range(50), target].log().mean()
    found = imbalanced_loss("logit_adjust", logits, target, COUNTS)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("kind", ["weights", "logit_adjust"])
def test_equal_classes_change_nothing(kind: Any) -> None:
    logits, target = batch()
    found = imbalanced_loss(kind, logits, target, torch.full((3,), 7.0), 0.1)
    assert found.item() == pytest.approx(F.cross_entropy(logits, target, label_smoothing=0.1).item(), rel=1e-5)


# ------------------------------------------------------------------------------------------------------------- batches
TARGETS = st.lists(st.integers(0, 3), min_size=8, max_size=300).map(np.array)
SHARES = {"targets": TARGETS, "batch_size": st.integers(1, 9), "world_size": st.integers(1, 4)}


def epochs_of(targets: np.ndarray, batch_size: int, world_size: int, *, seed: int = 0, epoch: int = 0) -> list[Any]:
    found = []
    for rank in range(world_size):
        batches = Balanced(targets, batch_size, seed=seed, rank=rank, world_size=world_size)
        batches.set_epoch(epoch)
        found.append(list(batches))
    return found


@settings(max_examples=80, deadline=None)
@given(**SHARES, epoch=st.integers(0, 5))
def test_every_share_is_balanced_and_equal(targets: np.ndarray, batch_size: int, world_size: int, epoch: int) -> None:
    ranks = epochs_of(targets, batch_size, world_size, epoch=epoch)
    plain = Batches(len(targets), batch_size, train=True, world_size=world_size)
    assert {tuple(map(len, batches)) for batches in ranks} == {tuple(map(len, plain))}, "as plain batches, on all ranks"
    for batches in ranks:
        drawn = targets[np.concatenate(batches) % len(targets)]
        counts = [int((drawn == target).sum()) for target in np.unique(targets)]
        assert max(counts) - min(counts) <= 1


@settings(max_examples=80, deadline=None)
@given(**SHARES)
def test_no_example_again_before_all_of_its_class(targets: np.ndarray, batch_size: int, world_size: int) -> None:
    keys = np.concatenate([np.concatenate(batches) for batches in epochs_of(targets, batch_size, world_size)])
    assert len(set(keys.tolist())) == len(keys), "no draw twice, on whatever rank: each is augmented in its own way"
    times = np.bincount(keys % len(targets), minlength=len(targets))
    for target in np.unique(targets):
        mine = times[targets == target]
        assert mine.max() - mine.min() <= 1


@settings(max_examples=30, deadline=None)
@given(**SHARES, done=st.integers(0, 20))
def test_goes_on_where_it_was(targets: np.ndarray, batch_size: int, world_size: int, done: int) -> None:
    batches = Balanced(targets, batch_size, seed=3, world_size=world_size)
    whole = list(batches)
    batches.done = done
    assert list(batches) == whole[done:]
    assert list(batches) == whole, "once only"


def test_seed_and_epoch_choose_the_draws() -> None:
    targets = np.repeat([0, 1], [200, 10])

    def order(**which: int) -> list[int]:
        return (np.concatenate(epochs_of(targets, 8, 1, **which)[0]) % len(targets)).tolist()

    assert order() == order()
    assert order() != order(seed=1)
    assert order() != order(epoch=1)
    seen = {i for epoch in range(8) for i in order(epoch=epoch)}
    assert len(seen) > 200, "what an epoch leaves out is drawn in another"


def test_texts_of_like_length_are_drawn_alike() -> None:
    targets, rng = np.repeat([0, 1], [900, 100]), np.random.default_rng(0)
    lengths = rng.integers(1, 200, 1000)
    plain, alike = (Balanced(targets, 10, lengths=given) for given in (None, lengths))
    draws = [np.concatenate(list(batches)) for batches in (plain, alike)]
    assert sorted(draws[0]) == sorted(draws[1])

    def padded(batches: Balanced) -> int:
        return sum(int(lengths[np.array(batch) % 1000].max()) * len(batch) for batch in batches)

    assert padded(alike) < 0.75 * padded(plain)


# --------------------------------------------------------------------------------------------------------------- tasks
def uneven(count: int = 400) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(1)
    target = (rng.random(count) < 0.1).astype(np.int64)
    numbers = rng.normal(size=(count, 2)) + target[:, None]
    return {"numbers": torch.tensor(numbers, dtype=torch.float32), "target": torch.tensor(target)}


def task_of(columns: dict[str, torch.Tensor], **more: Any) -> TabularClassification:
    counts = tuple(torch.bincount(columns["target"]).tolist())
    spec = DataSpec(classes=("often", "rare"), class_counts=counts, numbers=2)
    assert from_json(DataSpec, json.loads(json.dumps({"class_counts": counts}))).class_counts == counts
    return TabularClassification(Linear(spec, 2), spec, Optim(), **more)


def test_only_the_training_loss_changes() -> None:
    columns = uneven()
    task = task_of(columns)
    logits = torch.randn(400, 2)
    plain = task.objective.loss(logits, columns["target"])
    task.set_imbalance_strategy("weights")
    assert task.objective.loss(logits, columns["target"]) == plain
    assert task.objective.training_loss(logits, columns["target"]) != plain
    assert "class_counts" not in task.state_dict(), "checkpoints stay as they were"


@pytest.mark.parametrize("method", ["weights", "sampler", "logit_adjust"])
def test_a_solved_head_counts_rare_classes_too(method: Imbalance) -> None:
    columns = uneven()
    task = task_of(columns, cached_features="start")
    task.set_imbalance_strategy(method)
    kept = {"features": columns["numbers"], "target": columns["target"]}
    line = task.start_from_features({"train": kept, "val": kept})
    x, y = columns["numbers"].numpy(), columns["target"].numpy()
    l2 = float(line.partition("L2 ")[2].split()[0])
    balanced = None if method == "logit_adjust" else "balanced"
    scaled = (x - x.mean(0)) / x.std(0, ddof=1)
    # |w|^2 of two opposite rows is half that of their difference, which is all that a binary regression has.
    theirs = LogisticRegression(C=2 / (l2 * len(x)), class_weight=balanced, tol=1e-8).fit(scaled, y)
    logits = task.head(columns["numbers"]).detach().numpy()
    expected = theirs.decision_function(scaled)
    if method == "logit_adjust":
        expected = expected - np.log((y == 1).mean() / (y == 0).mean())
    assert logits[:, 1] - logits[:, 0] == pytest.approx(expected, abs=0.02)


def test_focal_is_refused_where_a_head_is_solved_to_start_from() -> None:
    with pytest.raises(InputError, match=r"--imbalance focal.*Choose weights, sampler or logit_adjust"):
        task_of(uneven(), cached_features="start").set_imbalance_strategy("focal")


def test_focal_trains_a_head_on_kept_features_from_the_start() -> None:
    task = task_of(uneven(), cached_features="probe")
    task.set_imbalance_strategy("focal")
    before = task.head.linear.weight.clone()
    kept = {"features": uneven()["numbers"], "target": uneven()["target"]}
    assert "not solved" in task.start_from_features({"train": kept, "val": kept})
    assert torch.equal(task.head.linear.weight, before)


class Own(SingleLabel):
    """An objective of the user's with a loss of its own."""

    @override
    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        return super().loss(2 * outputs, target)


def test_a_loss_of_the_users_is_not_replaced() -> None:
    columns = uneven()
    spec = task_of(columns).spec
    task = Task(Linear(spec, 2), Own(spec), TableInput())
    for method in ("weights", "focal", "logit_adjust"):
        with pytest.raises(InputError, match=rf"--imbalance {method}: Own has a loss of its own"):
            task.set_imbalance_strategy(method)
    task.set_imbalance_strategy("sampler")
    logits = torch.randn(400, 2)
    assert task.objective.training_loss(logits, columns["target"]) == task.objective.loss(logits, columns["target"])


@pytest.mark.parametrize("share", [-0.5, 1.0, 2.0])
def test_label_smoothing_is_a_share(share: float) -> None:
    with pytest.raises(InputError, match="--label-smoothing"):
        task_of(uneven(), label_smoothing=share)


def test_a_spec_without_counts_is_refused() -> None:
    spec = DataSpec(classes=("a", "b"), numbers=2)
    with pytest.raises(InputError, match="class_counts"):
        TabularClassification(Linear(spec, 2), spec, Optim()).set_imbalance_strategy("weights")


# --------------------------------------------------------------------------------------------------------- experiments
def test_regression_has_no_such_field() -> None:
    assert not hasattr(TableRegression, "imbalance")


@pytest.mark.parametrize("method", METHODS)
def test_tables_train_by_each(method: Imbalance, houses: Path) -> None:
    quieten()
    run = runner.run(TableClassification(data_dir=houses, target="size", batch_size=8, max_epochs=1, imbalance=method))
    record = records.load(run)
    assert record["state"] == "done"
    assert record["fields"]["imbalance"] == method
    assert sum(record["spec"]["class_counts"]) == record["data"]["sizes"]["train"]


def test_the_field_reaches_data_and_task(images: Path, texts: Path, houses: Path) -> None:
    small: dict[str, Any] = {"imbalance": "sampler", "batch_size": 4}
    for experiment in (
        Images(data_dir=images, weights="none", backbone="test_resnet", image_size=32, **small),
        TextsLstm(data_dir=texts, **small),
        TextsLstm(data_dir=texts, prep=TextPrep(padding="max_length"), **small),
        TableLogistic(data_dir=houses, target="size", **small),
        DigitsCNN(source="sklearn", **small),
    ):
        datamodule, task = build.build_parts(experiment)
        assert isinstance(datamodule.batches("train", train=True), Balanced)
        assert not isinstance(datamodule.batches("train", train=False), Balanced)
        assert not isinstance(datamodule.batches("val", train=False), Balanced)
        assert isinstance(task.objective, SingleLabel)
        assert task.objective.imbalance == "sampler"
        assert datamodule.spec.class_counts == tuple(datamodule.class_counts()["train"].values())


def test_kept_features_are_drawn_evenly_too() -> None:
    kept = {"train": {"features": torch.zeros(4, 2), "target": torch.tensor([0, 0, 0, 1])}}
    data = Tensors(kept, DataSpec(classes=("a", "b")), batch_size=4)
    data.balanced = True
    drawn = kept["train"]["target"][torch.tensor(next(iter(data.batches("train", train=True)))) % 4]
    assert drawn.sum() == 2


def test_so_many_tokens_a_batch_cannot_be_balanced(texts: Path) -> None:
    datamodule, _ = build.build_parts(TextsLstm(data_dir=texts, imbalance="sampler", prep=TextPrep(max_tokens=100)))
    with pytest.raises(InputError, match=r"--imbalance sampler and --prep.max-tokens"):
        datamodule.batches("train", train=True)


def test_an_unknown_method_is_an_error_with_the_choices(script: Script) -> None:
    done = script("run.py", "experiments/digits.py", "--imbalance", "smote")
    assert done.returncode != 0
    assert "logit_adjust" in done.stderr


@pytest.mark.slow
def test_two_processes(script: Script, images: Path, tmp_path: Path) -> None:
    """A balanced sampler under DDP: all of val once, and the record of one run."""
    flags = ("--data-dir", images, "--weights", "none", "--backbone", "test_resnet", "--accelerator", "cpu")
    target = "experiments/imbalanced.py:ImbalancedSampler"
    done = script("run.py", target, *TINY, *flags, "--devices", "2", "--strategy", "ddp")
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("runs/*/*/run.json")
    record = json.loads(path.read_text())
    assert (record["state"], record["device"]) == ("done", "cpu x 2")
    with open(path.parent / "predictions_val.csv", encoding="utf-8", newline="") as file:
        assert len({row["id"] for row in csv.DictReader(file)}) == 8
    assert {"temperature", "ece_before", "ece_after", "threshold"} <= set(record["calibration"])
