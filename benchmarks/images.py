"""Fine-tuning on pictures, side by side: ours, loops by hand, and other trainers with their defaults.

    python benchmarks/images.py resnet18 --rounds 5
    python benchmarks/images.py resnet50 --rounds 5
    python benchmarks/images.py probe --rounds 5
    python benchmarks/images.py loader --rounds 5
    python benchmarks/images.py resnet18 --score

Pictures are JPEGs drawn for the purpose into a temporary folder, or those of `--data-dir` (train and val folders).
Networks start from random weights, which changes no speed; the probe's backbone is the packaged EfficientNet-Lite0.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import lightning
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from benchmarks import report
from benchmarks.loops import DEVICE, Train, by_hand, last_score, ours, tutorial
from benchmarks.pictures import MEAN, STD, photographs, tutorial_loader
from benchmarks.turns import Contender, Steps, Turns
from experiments.cats_dogs_finetune import CatsDogsFinetune, CatsDogsProbe
from src import models, tasks
from src.datamodules import ImageFolder
from src.datamodules.base import cores_of_gpu
from src.datamodules.synthetic.images import draw_folder
from src.experiment import Augment, DataSpec, Experiment, Optim
from src.models.pretrained import PACKAGED_BACKBONE
from src.runs.records import Record
from src.tasks.optim import build_optimizer
from src.training import build
from src.training.devices import choose_precision
from src.training.trainer import build_callbacks, build_trainer, keep_memory, quieten

SCORE_EPOCHS, SCORE_SIDE = 20, 64
"""Of the race for the score, in which 5 epochs of 400 pictures of 224 pixels left all of them at chance."""


class Finetune(CatsDogsFinetune):
    """The default recipe from random weights: upper part trained, norms fixed."""

    weights = "none"


class Whole(Finetune):
    """The whole network trained, norms too: what the loops by hand do."""

    backbone = "resnet18"
    frozen = 0.0
    dropout = 0.0
    optim = Optim(lr=1e-3, weight_decay=0.05, warmup=0.1)

    def task(self, spec: DataSpec) -> tasks.ImageClassification:
        return tasks.ImageClassification(models.ResNet(self.backbone, spec.num_classes), spec, self.optim)


class ResNet50(Whole):
    """The same with 50 layers."""

    backbone = "resnet50"


def expert(folder: Path, experiment: Whole) -> Train:
    """Return a contender: the recipe of `experiment` by hand, pictures decoded once into memory."""

    def train(turns: Turns) -> None:
        datamodule = ImageFolder(folder, augment=Augment(crop=(1.0, 1.0), flip=False), image_size=256)
        datamodule.setup("fit")
        images = datamodule.examples("train", range(len(datamodule.ids("train"))))
        assert isinstance(images, Tensor)
        change = v2.Compose(
            [
                v2.RandomResizedCrop(224, scale=experiment.augment.crop, ratio=(4 / 5, 5 / 4), antialias=True),
                v2.RandomHorizontalFlip(),
            ]
        )
        pairs = list(zip(images, datamodule.targets("train"), strict=True))

        def collate(some: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
            whole = torch.stack([change(image) for image, _ in some]).contiguous(memory_format=torch.channels_last)
            return whole.float().div_(255), torch.stack([target for _, target in some])

        model = models.ResNet(experiment.backbone, 2).to(memory_format=torch.channels_last)  # pyright: ignore
        optimizer = build_optimizer(model.layer_groups(), experiment.optim, model)
        gpu = DEVICE.type == "cuda"  # as Leyden: workers only where the cores have nothing else to do
        loader: Any = DataLoader(
            pairs,  # pyright: ignore[reportArgumentType]
            experiment.batch_size,
            shuffle=True,
            drop_last=True,
            collate_fn=collate,
            num_workers=min(8, cores_of_gpu()) if gpu else 0,
            persistent_workers=gpu,
            pin_memory=gpu,
        )
        by_hand(model, lambda: loader, optimizer, turns, bf16=choose_precision(experiment) == "bf16-mixed")

    return train


def textbook(folder: Path, name: str) -> Train:
    """Return a contender: torch's transfer-learning tutorial, all weights trained."""

    def train(turns: Turns) -> None:
        model: Any = torchvision.models.get_model(name)
        model.fc = nn.Linear(model.fc.in_features, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
        tutorial(model, tutorial_loader(folder / "train", train=True), optimizer, turns)

    return train


class Plain(lightning.LightningModule):
    """The module of Lightning's own introduction around a ResNet-18."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torchvision.models.resnet18(num_classes=2)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def lightning_default(folder: Path) -> Train:
    def train(turns: Turns) -> None:
        loader = tutorial_loader(folder / "train", train=True, batch_size=32)
        with tempfile.TemporaryDirectory() as root:
            lightning.Trainer(default_root_dir=root, max_epochs=-1, callbacks=[Steps(turns)]).fit(Plain(), loader)

    return train


def fastai(folder: Path, epochs: int | None = None, side: int = 224) -> Callable[[Turns], float]:
    """Return a contender: fastai's vision_learner with its defaults (batches of 64, float32, its one-cycle)."""

    def train(turns: Turns) -> float:
        from fastai.vision import all as fast  # pyright: ignore[reportMissingImports]

        class Step(fast.Callback):
            def after_batch(self) -> None:
                if self.training:  # pyright: ignore[reportAttributeAccessIssue]
                    turns.step(len(self.y))  # pyright: ignore[reportAttributeAccessIssue]

        data = fast.ImageDataLoaders.from_folder(folder, train="train", valid="val", item_tfms=fast.Resize(side))
        learner = fast.vision_learner(data, fast.resnet18, pretrained=False, metrics=fast.accuracy, cbs=Step())
        learner.fit_one_cycle(epochs or 1000)
        return float(learner.recorder.values[-1][-1])

    return train


def timm_loop(folder: Path, epochs: int | None = None, side: int = 224) -> Callable[[Turns], float]:
    """Return a contender: the loop of timm's train.py with that script's defaults (batches of 128, SGD, 4 workers)."""

    def train(turns: Turns) -> float:
        from timm.data.dataset_factory import create_dataset
        from timm.data.loader import create_loader
        from timm.optim._optim_factory import create_optimizer_v2
        from timm.scheduler.cosine_lr import CosineLRScheduler

        def loader(split: str) -> Any:
            data: Any = create_dataset("", str(folder / split))
            return create_loader(
                data, (3, side, side), 128, is_training=split == "train",
                hflip=0.5, color_jitter=0.4, num_workers=4, device=DEVICE,
            )  # fmt: skip

        model: Any = timm.create_model("resnet18", num_classes=2).to(DEVICE)
        optimizer = create_optimizer_v2(model, "sgd", lr=0.1 * 128 / 256, momentum=0.9, weight_decay=2e-5)
        scheduler = CosineLRScheduler(optimizer, t_initial=epochs or 1000)
        batches = loader("train")
        for epoch in range(epochs or 1000):
            model.train()
            for images, target in batches:
                loss = F.cross_entropy(model(images), target)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                turns.step(len(target))
            scheduler.step(epoch + 1)
        model.eval()
        with torch.no_grad():
            right = torch.cat([model(images).argmax(1) == target for images, target in loader("val")])
        return float(right.float().mean())

    return train


def finetune(folder: Path, job: str) -> list[Contender]:
    """Return who trains a ResNet-18 or ResNet-50."""
    if job == "resnet50":
        return [
            Contender("Leyden", ours(Finetune(backbone="resnet50", data_dir=folder)), steps=2),
            Contender("Leyden, whole network", ours(ResNet50(data_dir=folder)), steps=1),
            Contender("textbook loop", textbook(folder, "resnet50"), 5, "Leyden", 3.0),
        ]
    same = Whole(data_dir=folder)
    return [
        Contender("Leyden", ours(Finetune(backbone="resnet18", data_dir=folder)), steps=4),
        Contender("Leyden, whole network", ours(same), steps=3),
        Contender("plain loop, same recipe", expert(folder, same), 3, "Leyden, whole network", 0.97),
        Contender("textbook loop", textbook(folder, "resnet18"), 10, "Leyden, whole network"),
        Contender("fastai vision_learner", fastai(folder), 1, "Leyden, whole network", 2.0),
        Contender("timm's train.py loop", timm_loop(folder), 1, "Leyden, whole network", 1.0),
        Contender("Lightning, defaults", lightning_default(folder), 2, "Leyden, whole network"),
    ]


# ------------------------------------------------------------------------------------------------ probe and loader
@contextlib.contextmanager
def empty_cache() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as name:
        os.environ["LEYDEN_CACHE"] = name
        yield


def probe(experiment: Experiment) -> Train:
    """Return a contender: decoding, features, solved head and five epochs, again and again from an empty cache."""

    def train(turns: Turns) -> None:
        quieten()
        while True:
            with empty_cache(), tempfile.TemporaryDirectory() as folder:
                datamodule, task = build.build_parts(experiment)
                trainer = build_trainer(experiment, build_callbacks(experiment, Record(Path(folder)))[1:], logger=False)
                kept = build.prepare_features(task, datamodule, trainer, resumed=False, test=False)
                assert kept
                trainer.fit(task, datamodule=kept)
            turns.step((experiment.max_epochs or 1) * datamodule.sizes()["train"])

    return train


def textbook_probe(folder: Path, epochs: int) -> Train:
    """Return a contender: the tutorial's "fixed feature extractor", which runs the backbone in every epoch."""

    def train(turns: Turns) -> None:
        while True:
            model = models.ResNet(PACKAGED_BACKBONE, 2, weights="imagenet")
            model.backbone.requires_grad_(False)
            optimizer = torch.optim.SGD(model.head.parameters(), lr=0.001, momentum=0.9)
            loaders = {split: tutorial_loader(folder / split, train=split == "train") for split in ("train", "val")}
            done = Turns(0)  # its steps are no turns
            for _ in range(epochs):
                tutorial(model, loaders["train"], optimizer, done, epochs=1)
                model.eval()
                with torch.no_grad():
                    for images, target in loaders["val"]:
                        int((model(images.to(DEVICE)).argmax(1) == target.to(DEVICE)).sum())
            turns.step(epochs * len(loaders["train"].dataset))  # pyright: ignore[reportArgumentType]

    return train


def our_loader(folder: Path, *, train: bool, cached: bool, floats: bool = False) -> Train:
    """Return a contender: one pass over the training pictures; decoded before, or from an empty cache.

    The tutorial's loader hands out normalised floats, ours bytes, a quarter as many, which become normalised floats on
    the device. With `floats` they do so here.
    """
    mean, std = (255 * torch.tensor(numbers)[:, None, None] for numbers in (MEAN, STD))

    def run(turns: Turns) -> None:
        keep_memory()  # as in every training
        loader: Any = None
        while True:
            with contextlib.nullcontext() if cached else empty_cache():
                if loader is None or not cached:
                    datamodule = ImageFolder(folder)
                    datamodule.setup("fit")
                    loader = datamodule.loader("train", train=train)
                done = 0
                for batch in loader:
                    images = (batch["image"] - mean).div_(std) if floats else batch["image"]
                    done += len(images)
                turns.step(done)

    return run


def textbook_loader(folder: Path, *, train: bool) -> Train:
    def run(turns: Turns) -> None:
        loader = tutorial_loader(folder / "train", train=train)
        while True:
            turns.step(sum(len(target) for _, target in loader))

    return run


def loaders(folder: Path) -> list[Contender]:
    first, later, still = "Leyden, first epoch", "Leyden, later epochs", "Leyden, later epochs, nothing changed"
    normalised = "Leyden, later epochs, normalised floats"
    return [
        Contender(first, our_loader(folder, train=True, cached=False)),
        Contender(later, our_loader(folder, train=True, cached=True), 8),
        Contender(still, our_loader(folder, train=False, cached=True), 100),
        Contender(normalised, our_loader(folder, train=True, cached=True, floats=True), 6),
        Contender("textbook loader", textbook_loader(folder, train=True), 1, later, 20.0),
        Contender("textbook loader against our first", textbook_loader(folder, train=True), 1, first),
        Contender("textbook loader against our floats", textbook_loader(folder, train=True), 1, normalised),
        Contender("textbook loader, nothing changed", textbook_loader(folder, train=False), 1, still, 20.0),
    ]


def main() -> None:
    jobs = {"resnet18": (1600, 64), "resnet50": (400, 64), "probe": (144, 36), "loader": (400, 16)}  # train, val
    flags = report.options(__doc__ or "", [*jobs])
    with tempfile.TemporaryDirectory() as name:
        os.environ.setdefault("LEYDEN_RUNS", str(Path(name) / "runs"))
        os.environ["LEYDEN_CACHE"] = str(Path(name) / "cache")
        folder = flags.data_dir or Path(name) / "pictures"
        if not flags.data_dir:
            if flags.score:
                draw_folder(folder)
            else:
                photographs(folder, train=jobs[flags.job][0], val=jobs[flags.job][1])
        if flags.score:
            turns = Turns(0)
            trained = {
                "Leyden": lambda: last_score(Whole(data_dir=folder, max_epochs=SCORE_EPOCHS, image_size=SCORE_SIDE)),
                "fastai vision_learner": lambda: fastai(folder, SCORE_EPOCHS, SCORE_SIDE)(turns),
                "timm's train.py loop": lambda: timm_loop(folder, SCORE_EPOCHS, SCORE_SIDE)(turns),
            }
            title = (
                f"{flags.job}, {SCORE_EPOCHS} epochs of {SCORE_SIDE} px, drawn pictures (800/200), from random weights"
            )
            found = report.scores(title, trained)
        elif flags.job == "probe":
            experiment = CatsDogsProbe(data_dir=folder, max_epochs=5, patience=None, backbone=PACKAGED_BACKBONE)
            contenders = [
                Contender("Leyden", probe(experiment)),
                Contender("textbook loop", textbook_probe(folder, 5), 1, "Leyden", 4.5),
            ]
            found = report.measure("image probe of five epochs, from an empty cache", contenders, flags.rounds)
        elif flags.job == "loader":
            found = report.measure("image loader alone", loaders(folder), flags.rounds, "pictures/s")
        else:
            found = report.measure(f"fine-tuning {flags.job}, 224 px", finetune(folder, flags.job), flags.rounds)
        report.show(found, flags.json)


if __name__ == "__main__":
    main()
