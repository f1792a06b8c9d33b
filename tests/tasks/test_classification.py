"""Classification: scores as scikit-learn has them, smoothing as torch has it, the same logits from whatever way in."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from lightning.pytorch import Trainer
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
)
from torch import Tensor, nn

from src.datamodules import ImageFolder, Tensors
from src.experiment import DataSpec, InputError, Optim
from src.models import CNN, ResNet
from src.tasks import ImageClassification, SingleLabel, Task
from src.tasks.inputs import PlainInput
from src.tasks.task import Batch
from src.training.trainer import quieten

CLASSES = ("a", "b", "c", "d")
SPEC = DataSpec(classes=CLASSES, input_shape=(3, 32, 32))


class Given(Task):
    """Takes its logits from the batch: the scores of known predictions."""

    def forward(self, batch: Batch) -> Tensor:
        return batch["logits"] + 0 * self.model.get_parameter("weight").sum()


def given(**arguments: Any) -> Given:
    return Given(nn.Linear(1, 1), SingleLabel(SPEC, **arguments), PlainInput(), Optim())


def predictions(count: int = 103) -> dict[str, Tensor]:
    """Logits that are right more often than not, with unequal classes and errors."""
    rng = np.random.default_rng(4)
    target = rng.choice(4, count, p=(0.5, 0.25, 0.15, 0.1))
    logits = rng.normal(size=(count, 4)) * 2 + 2.5 * np.eye(4)[target] + (0.5, 0, 0, 0)
    return {"logits": torch.tensor(logits, dtype=torch.float32), "target": torch.tensor(target)}


def trainer() -> Trainer:
    quieten()
    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def scores(task: Task, columns: dict[str, Tensor], stage: str) -> dict[str, float]:
    """Return the metrics of a validation or test in batches of 10, the last one shorter."""
    data = Tensors({"train": columns, "val": columns, "test": columns}, SPEC, batch_size=10)
    run = trainer()
    (found,) = (run.validate if stage == "val" else run.test)(task, datamodule=data, verbose=False)
    return dict(found)


def expected_calibration_error(prob: np.ndarray, target: np.ndarray) -> float:
    """Guo et al. 2017, eq. 3, with 15 bins of equal width."""
    confidence, right = prob.max(1), prob.argmax(1) == target
    total = 0.0
    for low in range(15):
        inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


@pytest.mark.parametrize("stage", ["val", "test"])
def test_metrics_are_those_of_scikit_learn(stage: str) -> None:
    columns = predictions()
    target, prob = columns["target"].numpy(), columns["logits"].double().softmax(-1).numpy()
    label = prob.argmax(1)
    expected = {
        "loss": log_loss(target, prob),
        "acc": accuracy_score(target, label),
        "balanced_acc": balanced_accuracy_score(target, label),
        "precision": precision_score(target, label, average="macro"),
        "recall": recall_score(target, label, average="macro"),
        "f1": f1_score(target, label, average="macro"),
        "auroc": roc_auc_score(target, prob, average="macro", multi_class="ovr"),
        "ece": expected_calibration_error(prob, target),
    }
    assert len({round(value, 6) for value in expected.values()} - {1.0}) == 7, "only recall and balanced_acc agree"
    found = scores(given(), columns, stage)
    assert found == pytest.approx({f"{stage}/{name}": value for name, value in expected.items()}, abs=1e-5)


def macro_by_hand(target: np.ndarray, prob: np.ndarray) -> dict[str, float]:
    """Return the means of scikit-learn's scores of one class at a time, over the classes that can be scored."""
    label = prob.argmax(1)
    there = [k for k in range(prob.shape[1]) if (target == k).any()]
    known = [k for k in range(prob.shape[1]) if (target == k).any() or (label == k).any()]
    ranked = [k for k in there if (target != k).any()]
    recall = np.mean([recall_score(target == k, label == k) for k in there])
    return {
        "balanced_acc": float(recall),
        "recall": float(recall),
        "precision": float(np.mean([precision_score(target == k, label == k, zero_division=0.0) for k in known])),  # pyright: ignore[reportArgumentType]
        "f1": float(np.mean([f1_score(target == k, label == k) for k in known])),
        "auroc": float(np.mean([roc_auc_score(target == k, prob[:, k]) for k in ranked])) if ranked else math.nan,
    }


@settings(deadline=None, max_examples=60)
@hypothesis.given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 2**32 - 1))
def test_absent_classes_are_left_out(classes: list[int], seed: int) -> None:
    quieten()
    target, rng = np.array(classes), np.random.default_rng(seed)
    prob = rng.dirichlet(np.ones(4), len(target)) / 2 + np.eye(4)[target] * rng.integers(0, 2, (len(target), 1)) / 2
    prob = (prob / prob.sum(1, keepdims=True)).astype(np.float32)
    found = SingleLabel(SPEC).score({"prob": prob}, target)
    expected = macro_by_hand(target, prob)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-5, nan_ok=True)


def test_what_is_there_is_perfect_and_so_is_the_score() -> None:
    quieten()
    target = np.array([0, 0, 1, 1])
    found = SingleLabel(SPEC).score({"prob": np.eye(4, dtype=np.float32)[target]}, target)
    names = ("acc", "balanced_acc", "precision", "recall", "f1", "auroc")
    assert {name: found[name] for name in names} == dict.fromkeys(names, 1.0)


def test_metrics_start_anew_at_each_validation() -> None:
    task, columns = given(), predictions()
    first = scores(task, columns, "val")
    scores(task, columns | {"target": (columns["target"] + 1) % 4}, "val")
    assert scores(task, columns, "val") == first


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
def test_label_smoothing_is_torchs(smoothing: float) -> None:
    columns = predictions()
    task = given(label_smoothing=smoothing)
    torchs = nn.CrossEntropyLoss(label_smoothing=smoothing)(columns["logits"], columns["target"])
    by_hand = torch.full((len(columns["target"]), 4), smoothing / 4)
    by_hand[torch.arange(len(by_hand)), columns["target"]] += 1 - smoothing
    torch.testing.assert_close(torchs, -(by_hand * columns["logits"].log_softmax(-1)).sum(1).mean())
    assert scores(task, columns, "val")["val/loss"] == pytest.approx(torchs.item(), rel=1e-5)


def test_a_step_returns_what_predictions_are_made_of() -> None:
    columns = predictions(7)
    task, seen = given(), []
    step = task.test_step
    task.test_step = lambda batch, batch_idx: seen.append(step(batch, batch_idx)) or seen[-1]
    scores(task, columns, "test")
    (out,) = seen
    torch.testing.assert_close(out["prob"], columns["logits"].softmax(-1))
    assert torch.equal(out["target"], columns["target"])
    assert out["index"].tolist() == list(range(7))


# ------------------------------------------------------------------------------------------------------------- images
def random_images(count: int, side: int = 32) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return CNN(4, widths=(8, 16)) if name == "CNN" else ResNet(name, 4, dropout=0.3)


@pytest.mark.parametrize("name", ["CNN", "test_resnet"])
def test_kept_features_give_the_logits_of_the_pictures(name: str) -> None:
    task = ImageClassification(network(name), SPEC, Optim(), cached_features="probe").eval()
    batch = {"image": random_images(5)}
    with torch.no_grad():
        features = task.features(batch)
        assert features.ndim == 2
        torch.testing.assert_close(task({"features": features}), task(batch))
        assert task(batch).std(0).min() > 1e-6, "the premise: the logits tell the images apart"


def test_training_on_kept_features_trains_the_head_alone() -> None:
    task = ImageClassification(network("test_resnet"), SPEC, Optim(), cached_features="probe")
    trained = {name for name, p in task.named_parameters() if p.requires_grad}
    assert trained == {"model.head.linear.weight", "model.head.linear.bias"}
    free = ImageClassification(network("test_resnet"), SPEC, Optim(), cached_features="start")
    assert all(p.requires_grad for p in free.parameters())


def kept(task: ImageClassification) -> dict[str, dict[str, Tensor]]:
    target = torch.arange(40) % 4
    images = random_images(40)
    images[torch.arange(40), target % 3] //= 2 + target[:, None, None] // 3  # something to tell the classes by
    with torch.no_grad():
        features = task.eval().features({"image": images})
    task.train()
    return {split: {"features": features, "target": target} for split in ("train", "val")}


@pytest.mark.parametrize("kind", ["start", "probe"])
def test_a_start_from_kept_features_is_the_solved_head(kind: Literal["start", "probe"]) -> None:
    task = ImageClassification(network("test_resnet"), SPEC, Optim(), cached_features=kind)
    features = kept(task)
    line = task.start_from_features(features)
    assert f"solved on cached features [40, {task.head.linear.in_features}]" in line
    right = task.eval()({"features": features["val"]["features"]}).argmax(1) == features["val"]["target"]
    assert right.float().mean() > 0.9


@pytest.mark.parametrize("split", ["train", "val"])
def test_kept_features_that_are_not_finite_are_refused(split: str) -> None:
    task = ImageClassification(network("test_resnet"), SPEC, Optim(), cached_features="start")
    features = {name: {**part, "features": part["features"].clone()} for name, part in kept(task).items()}
    features[split]["features"][3, 2] = torch.nan
    with pytest.raises(InputError, match=r"not all finite.*--precision 32"):
        task.start_from_features(features)


def test_validation_has_no_say_in_the_solved_head() -> None:
    lines, heads = [], []
    for drawn in (False, True):
        task = ImageClassification(network("test_resnet"), SPEC, Optim(), cached_features="start")
        features = kept(task)
        if drawn:
            features["val"] = {**features["val"], "target": torch.randint(0, 4, (40,))}
        lines.append(task.start_from_features(features))
        heads.append(task.head.linear.weight.detach())
    assert lines[0] == lines[1]
    assert lines[0].endswith("chosen by cross-validation")
    assert torch.equal(*heads)


def test_pixels_reach_the_model_as_shares_of_255() -> None:
    task = ImageClassification(network("CNN"), SPEC, Optim())
    pixels = task.input.tensors({"image": random_images(3)}, torch.float32)[0]
    assert pixels.dtype == torch.float32
    torch.testing.assert_close(pixels, random_images(3).float() / 255)


@pytest.mark.parametrize("name", ["CNN", "test_resnet"])
def test_channels_last_changes_the_memory_and_not_the_logits(name: str) -> None:
    fast, plain = (
        ImageClassification(network(name), SPEC, Optim(), channels_last=last).eval() for last in (True, False)
    )
    batch = {"image": random_images(4)}
    with torch.no_grad():
        torch.testing.assert_close(fast(batch), plain(batch), rtol=1e-4, atol=1e-5)
    for task, last in ((fast, True), (plain, False)):
        kernels = [p for p in task.model.parameters() if p.ndim == 4 and min(p.shape[1:3]) > 1]
        assert kernels
        for tensor in (task.input.tensors(batch, torch.float32)[0], *kernels):
            assert tensor.is_contiguous(memory_format=torch.channels_last) == last
            assert tensor.is_contiguous() != last


# ----------------------------------------------------------------------------------------------------------- prediction
def test_prediction_is_the_softmax_with_the_positions_and_errors() -> None:
    task = ImageClassification(network("CNN"), SPEC, Optim()).eval()
    batch = {"image": random_images(3), "index": torch.tensor([4, 6, 7]), "error": {5: "not an image"}}
    with torch.no_grad():
        out = task.predict_step(batch, 0)
        torch.testing.assert_close(out["prob"], task(batch).softmax(-1))
    assert out["index"].tolist() == [4, 6, 7]
    assert out["error"] == {5: "not an image"}


def test_a_batch_with_nothing_readable_is_predicted_as_errors(tmp_path: Path) -> None:
    for name in ("x.jpg", "y.jpg"):
        (tmp_path / name).write_text("no image")
    data = ImageFolder(image_size=32, batch_size=2)
    data.prepare_prediction([tmp_path], SPEC)
    task = ImageClassification(network("CNN"), SPEC, Optim())
    batches: Any = trainer().predict(task, datamodule=data)
    (out,) = batches
    assert out["prob"].shape == (0, 4)
    assert out["index"].tolist() == []
    assert out["error"] == {0: "not an image", 1: "not an image"}
