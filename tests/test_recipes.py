"""Recipes: what is mixed, averaged, grown, left out and looked at twice is what it says; what cannot be is refused."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.images import Images
from experiments.recipes import Plain
from src.datamodules.images.image_dataset import ImageDataset
from src.experiment import Augment, Averaging, DataSpec, InputError, Optim, Views
from src.inference import batch, predictor
from src.models import CNN, ResNet
from src.runs import records
from src.tasks import ImageClassification
from src.tasks.objectives.imbalance import imbalanced_loss
from src.training import build, runner
from src.training.trainer import build_callbacks, quieten

SPEC = DataSpec(classes=("a", "b", "c"), class_counts=(6, 3, 1), input_shape=(3, 16, 16))
SMALL: dict[str, Any] = {"image_size": 32, "batch_size": 8, "accelerator": "cpu", "precision": "32-true"}


def task_of(model: nn.Module | None = None, *, epoch: int = 0, epochs: int = 1, **more: Any) -> ImageClassification:
    """Return a task in training, as if in an epoch of a training."""
    task = ImageClassification(model or CNN(3, widths=(4, 4)), SPEC, Optim(), **more)
    task.trainer = Trainer(max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False)
    task.trainer.fit_loop.epoch_progress.current.completed = epoch
    return task


# -------------------------------------------------------------------------------------------------------------- mixing
@settings(max_examples=40, deadline=None)
@given(
    mix=st.sampled_from([{"mixup": 0.2}, {"mixup": 1.0}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 0.5}]),
    target=st.lists(st.integers(0, 2), min_size=1, max_size=9),
    seed=st.integers(0, 1000),
)
def test_targets_are_mixed_as_pictures_are(mix: dict[str, Any], target: list[int], seed: int) -> None:
    """Images of class k have channel k white: what is there of a class is its share of the target."""
    images = 255 * F.one_hot(torch.tensor(target), 3)[:, :, None, None].expand(-1, -1, 16, 16).to(torch.uint8)
    torch.manual_seed(seed)
    found = task_of(augment=Augment(**mix)).augmented({"image": images, "target": torch.tensor(target)})
    shown = found["image"].mean((2, 3)) / 255
    torch.testing.assert_close(found["target"], shown, atol=1e-4, rtol=0)
    torch.testing.assert_close(found["target"].sum(1), torch.ones(len(target)))


def test_mixing_follows_the_steps_seed() -> None:
    task = task_of(augment=Augment(mixup=1.0, cutmix=1.0))
    batch = {"image": torch.randint(255, (4, 3, 16, 16), dtype=torch.uint8), "target": torch.tensor([0, 1, 2, 0])}

    def drawn(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return task.augmented(batch)["target"]

    assert torch.equal(drawn(1), drawn(1))
    assert len({tuple(drawn(seed).flatten().tolist()) for seed in range(8)}) == 8


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["weights", "logit_adjust"]),
    smoothing=st.sampled_from([0.0, 0.1]),
    seed=st.integers(0, 1000),
)
def test_the_loss_of_a_mixture_is_the_mixture_of_the_losses(kind: Any, smoothing: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits, counts = torch.randn(5, 3, generator=generator), torch.tensor([6.0, 3.0, 1.0])
    shares = torch.rand(5, 3, generator=generator)
    shares = shares / shares.sum(1, keepdim=True)
    expected = sum(
        shares[row, target] * imbalanced_loss(kind, logits[row : row + 1], torch.tensor([target]), counts, smoothing)
        for row in range(5)
        for target in range(3)
    )
    torch.testing.assert_close(imbalanced_loss(kind, logits, shares, counts, smoothing), cast(Tensor, expected) / 5)


def test_training_smooths_mixed_targets_and_counts_the_greater_share() -> None:
    task = task_of(augment=Augment(mixup=1.0), label_smoothing=0.1)
    batch = {"image": torch.randint(255, (4, 3, 16, 16), dtype=torch.uint8), "target": torch.tensor([0, 1, 2, 0])}
    torch.manual_seed(3)
    mixed = task.augmented(batch)
    torch.manual_seed(3)
    task.eval()  # the same dropout and norms for both
    loss = task._step(batch, "train")["loss"]
    logits = task({"image": mixed["image"]})
    smooth = 0.9 * mixed["target"] + 0.1 / 3
    torch.testing.assert_close(loss, -(smooth * logits.log_softmax(1)).sum(1).mean())
    right = (logits.argmax(1) == mixed["target"].argmax(1)).float().mean()
    torch.testing.assert_close(task.train_metrics.compute()["train/acc"], right)


def test_focal_and_mixing_are_refused_together() -> None:
    task = task_of(augment=Augment(cutmix=1.0))
    with pytest.raises(InputError, match=r"--imbalance focal: cannot be combined with --augment.mixup"):
        task.set_imbalance_strategy("focal")
    task.set_imbalance_strategy("weights")
    task_of().set_imbalance_strategy("focal")


@pytest.mark.parametrize(
    ("flag", "more"),
    [
        ("augment.mixup", {"augment": Augment(mixup=0.2)}),
        ("augment.cutmix", {"augment": Augment(cutmix=0.2)}),
        ("start-size", {"start_size": 0.5}),
        ("views", {"views": "mirrored"}),
    ],
)
def test_kept_features_see_no_pictures(flag: str, more: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"--{flag}: .*cached features"):
        task_of(cached_features="probe", **more)
    task_of(cached_features="start", **more)


# ------------------------------------------------------------------------------------------------------- each image
def coloured(folder: Path, augment: Augment) -> ImageDataset:
    """Return eight coloured images of 32 pixels for training."""
    path = folder / "pixels.npy"
    shades = np.random.default_rng(0).integers(0, 100, (8, 1, 1, 3), np.uint8)
    np.save(path, np.ascontiguousarray(np.broadcast_to(shades, (8, 32, 32, 3))))
    files = [folder / f"{i}.png" for i in range(8)]
    return ImageDataset(
        files, path, np.arange(8), torch.zeros(8), stored_size=32, image_size=32, augment=augment, seed=1
    )


@pytest.mark.parametrize("change", [{"erasing": 1.0}, {"randaugment": (2, 9)}])
def test_each_picture_is_changed_by_seed_epoch_and_picture(change: dict[str, Any], tmp_path: Path) -> None:
    plain = Augment(crop=(1.0, 1.0), flip=False)
    before = coloured(tmp_path, plain)[[*range(8)]]["image"]
    changed = coloured(tmp_path, Augment(crop=(1.0, 1.0), flip=False, **change))
    first = changed[[*range(8)]]["image"]
    assert not torch.equal(first, before)
    assert torch.equal(changed[[3, 1]]["image"], first[[3, 1]]), "whatever the batch"
    assert not torch.equal(changed[[*range(8, 16)]]["image"], first), "another epoch"
    if "erasing" in change:
        grey = (first == 127).all(1)
        assert torch.equal(first.where(~grey[:, None], torch.tensor(0)), before.where(~grey[:, None], torch.tensor(0)))
        share = grey.float().mean((1, 2))
        assert ((share > 0.01) & (share < 0.4)).all()


# ------------------------------------------------------------------------------------------------------------- growing
@settings(max_examples=20, deadline=None)
@given(start=st.floats(0.3, 1.0), epochs=st.integers(1, 12))
def test_pictures_grow_to_their_whole_size(start: float, epochs: int) -> None:
    images = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    batch = {"image": images, "target": torch.tensor([0])}
    task = task_of(start_size=start, epochs=epochs)
    sides = []
    for epoch in range(epochs):
        task.trainer.fit_loop.epoch_progress.current.completed = epoch
        sides.append(task.augmented(batch)["image"].shape[-1])
    assert sides == sorted(sides)
    assert epochs == 1 or sides[0] == round(16 * start)
    assert all(side == 16 for epoch, side in enumerate(sides) if epoch >= 0.75 * epochs)
    assert sides[-1] == 16


@pytest.mark.parametrize(
    ("network", "start", "least"), [("CNN", 0.01, 16), ("CNN", 0.2, 16), ("ResNet", 0.3, 32)], ids=str
)
def test_pictures_too_small_for_the_network_are_refused_and_the_least_is_taken(
    network: str, start: float, least: int, images: Path
) -> None:
    fields: dict[str, Any] = {"data_dir": images, "image_size": 48, "max_epochs": 3}

    def parts(**more: Any) -> ImageClassification:
        if network == "CNN":
            return cast(ImageClassification, build.build_parts(Plain(**fields | more))[1])
        asked = Images(weights="none", backbone="convnext_atto", **fields | more)
        return cast(ImageClassification, build.build_parts(asked)[1])

    with pytest.raises(InputError, match=rf"--start-size {start:g}: images of .* At least ") as error:
        parts(start_size=start)
    share = float(str(error.value).removesuffix(".").rpartition(" ")[2])
    assert least <= round(48 * share) <= least + 1
    task = parts(start_size=share)
    assert task.model.training
    with pytest.raises(
        InputError, match=rf"--image-size {least - 1}: the network does not take .* The least is {least}"
    ):
        parts(image_size=least - 1)
    parts(image_size=least)


@pytest.mark.parametrize("size", [96, 256])
def test_a_transformer_of_one_size_says_which(size: int, images: Path) -> None:
    with pytest.raises(InputError, match=rf"--image-size {size}: the network does not take .* The least is 224"):
        build.build_parts(Images(data_dir=images, weights="none", backbone="vit_tiny_patch16_224", image_size=size))


def test_a_network_tried_out_is_as_it_was() -> None:
    model = CNN(3, widths=(4, 4))
    model.blocks[1].eval()
    before = [module.training for module in model.modules()], {n: v.clone() for n, v in model.state_dict().items()}
    task_of(model, start_size=0.5).try_out(4)
    assert [module.training for module in model.modules()] == before[0]
    assert all(torch.equal(value, before[1][name]) for name, value in model.state_dict().items())


def test_what_a_network_fails_on_besides_is_left_to_the_training() -> None:
    model = CNN(3, in_channels=1, widths=(4, 4))
    task_of(model).try_out(1)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"start_size": 0.0}, "--start-size 0.0: a share above 0"),
        ({"start_size": 1.5}, "--start-size 1.5"),
        ({"start_size": float("nan")}, "--start-size nan"),
        ({"dropout": 1.0}, "--dropout 1.0: from 0 to below 1"),
        ({"drop_path": -0.1}, "--drop-path -0.1: from 0 to below 1"),
        ({"label_smoothing": 2.0}, "--label-smoothing 2.0: from 0 to below 1"),
        ({"frozen": 2.0}, "--frozen 2.0: a share from 0 to 1"),
        ({"frozen": -1.0}, "--frozen -1.0"),
        ({"averaging": "swa", "max_epochs": 3}, "--averaging swa: .* 3 are too few"),
    ],
    ids=str,
)
def test_values_out_of_range_are_refused_before_anything_is_read(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Images(**fields)


# --------------------------------------------------------------------------------------------------------------- views
@pytest.mark.parametrize(("views", "count"), [("mirrored", 2), ("shifted", 10)])
def test_views_of_a_run_and_of_its_prediction(views: Views, count: int, images: Path) -> None:
    """The probabilities are the means over the views, in the run's own files and in `predict`."""
    quieten()
    run = runner.run(Plain(data_dir=images, views=views, max_epochs=1, **SMALL))
    experiment, _, task = predictor.load_run(run)
    task.eval()
    datamodule, _ = build.build_parts(experiment)
    originals = torch.cat([batch["image"] for batch in datamodule.val_dataloader()]).float()
    shifted = [originals]
    if count == 10:  # by two pixels of 32
        padded = F.pad(originals, [2] * 4, mode="replicate")
        shifted += [padded[..., top : top + 32, left : left + 32] for top in (0, 4) for left in (0, 4)]
    seen = [view for one in shifted for view in (one, one.flip(-1))]
    with torch.no_grad():
        prob = torch.stack([task.model(view / 255).softmax(1) for view in seen]).mean(0)
        alone = task.model(originals / 255).softmax(1)
    assert len(seen) == count
    assert (prob - alone).abs().max() > 1e-4, "the premise: views differ"
    with open(run / "predictions_val.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["prob_cat"]) for row in rows] == pytest.approx(prob[:, 0].tolist(), abs=2e-5)
    files = [datamodule.files("val")[i] for i in range(len(rows))]  # pyright: ignore[reportAttributeAccessIssue]
    found = batch.predict(run, files, accelerator="cpu", calibrate=False)
    again = [float(row["prob_cat"]) for row in csv.DictReader(found.text.splitlines())]
    assert again == pytest.approx(prob[:, 0].tolist(), abs=2e-5)
    record = records.load(run)
    assert record["fields"]["views"] == views
    expected = F.nll_loss(prob.log(), datamodule.targets("val")).item()
    assert record["metrics"]["val/loss"] == pytest.approx(expected, abs=1e-5)


# ----------------------------------------------------------------------------------------------------------- averaging
class Weights(Callback):
    """Keeps the weights after each step."""

    def __init__(self) -> None:
        self.after: list[dict[str, Tensor]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.after.append({name: value.clone() for name, value in pl_module.state_dict().items()})


class Watched(Plain):
    """Keeps the weights of every step."""

    seen: tuple[Weights, ...] = ()
    """Where they are kept."""

    def callbacks(self) -> list[Callback]:
        return [*self.seen]


def averaged(kind: Averaging, after: list[dict[str, Tensor]], name: str, done: int) -> Tensor:
    """Return the average of a weight after so many steps, three an epoch, of eight epochs, by hand."""
    values = [state[name].double() for state in after[:done]]
    if kind == "ema":
        average = values[0]
        for count, value in enumerate(values[1:], start=1):
            decay = min(0.999, (1 + count) / (10 + count))
            average = decay * average + (1 - decay) * value
        return average
    ends = [values[3 * epoch - 1] for epoch in (6, 7, 8) if 3 * epoch <= done]
    return torch.stack(ends).mean(0) if ends else values[-1]


@pytest.mark.parametrize("kind", ["ema", "swa"])
def test_what_is_saved_and_validated_is_the_average(kind: Averaging, images: Path) -> None:
    quieten()
    seen = Weights()
    experiment = Watched(data_dir=images, averaging=kind, seen=(seen,), max_epochs=8, **SMALL)
    run = runner.run(experiment)
    assert len(seen.after) == 24
    for file in ("last", "best"):
        saved = torch.load(run / "checkpoints" / f"{file}.ckpt", weights_only=True)
        done = saved["global_step"]
        for name in ("model.blocks.0.weight", "model.head.linear.bias", "model.blocks.1.running_var"):
            expected = averaged(kind, seen.after, name, done).float()
            torch.testing.assert_close(saved["state_dict"][name], expected, rtol=1e-4, atol=1e-6)
            assert torch.equal(saved["current_model_state"][name], seen.after[done - 1][name]), "trained on unaveraged"
    record = records.load(run)
    assert record["best"]["value"] == pytest.approx(record["metrics"]["val/acc"]), "as validated while training"
    (loss,) = [
        value
        for epoch, _, name, value in records.metrics(run)
        if name == "val/loss" and epoch == record["best"]["epoch"]
    ]
    assert loss == pytest.approx(record["metrics"]["val/loss"], abs=1e-6)
    _, _, task = predictor.load_run(run)
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(value, best[name]) for name, value in task.state_dict().items())


def test_four_epochs_have_a_last_quarter(tmp_path: Path) -> None:
    build_callbacks(Plain(averaging="swa", max_epochs=4), records.Record(tmp_path))


# ---------------------------------------------------------------------------------------------------- stochastic depth
def test_stochastic_depth_is_of_the_training_alone() -> None:
    torch.manual_seed(0)
    plain = ResNet("test_resnet", 2)
    deep = ResNet("test_resnet", 2, drop_path=0.5)
    deep.load_state_dict(plain.state_dict())
    images = torch.rand(4, 3, 32, 32)
    assert torch.equal(plain.eval()(images), deep.eval()(images))
    plain, deep = (ResNet("test_resnet", 2, fixed_norm=True, drop_path=share) for share in (0.0, 0.5))
    for module in (*plain.modules(), *deep.modules()):
        if isinstance(module, nn.BatchNorm2d):  # the last of each branch starts at zero
            nn.init.ones_(module.weight)
    assert torch.equal(plain(images), plain(images))
    assert not torch.equal(deep(images), deep(images))


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_branches_are_left_out_by_a_share(share: float) -> None:
    with pytest.raises(InputError, match="--drop-path"):
        ResNet("test_resnet", 2, drop_path=share)


@pytest.mark.parametrize("backbone", ["vgg11", "densenet121"])
def test_a_backbone_without_branches(backbone: str, images: Path) -> None:
    experiment = Images(data_dir=images, weights="none", backbone=backbone, drop_path=0.2, image_size=32)
    with pytest.raises(InputError, match=rf"--drop-path 0.2: {backbone} has no branches"):
        build.build_parts(experiment)
