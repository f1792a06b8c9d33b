"""The nearest training examples: a planted duplicate and a planted wrong label are found, and nothing is made up."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from kills import SmallBackbone
from PIL import Image
from table_runs import FIELDS, MLP, built
from torch import Tensor, nn

from experiments.images import Images
from experiments.tables import TableClassification
from experiments.texts import TextsLstm
from src.cli.data_check import check_data
from src.cli.parser import CheckFlags
from src.configs.spec import DataSpec, Target
from src.datamodules import DataModule, Tensors
from src.experiment import Recurrent, TextPrep, Vocabulary
from src.explain.example import Example
from src.explain.images import ImageExample
from src.explain.neighbours import TrainingFeatures, nearest
from src.explain.subject import Subject
from src.explain.texts import read as read_texts
from src.tasks import Task
from src.tasks.inputs import TableInput
from src.tasks.objectives import Regression, SingleLabel
from src.training.build import build_parts

UNCHECKED = (
    "scripts/check_data.py has not seen these data: what it finds wrong with a training example would stand beside it"
)
pytestmark = pytest.mark.usefixtures("quiet")


class SmallImages(SmallBackbone, Images):
    """One class an image."""


def example_of(subject: Subject, datamodule: DataModule, split: str, position: int) -> Example:
    dataset: Any = datamodule.dataset(split, train=False)
    tensors = subject.task.input.tensors(dataset[[position]], torch.float32)
    return Example(str(datamodule.ids(split)[position]), (), tensors)


def test_a_copy_of_an_image_in_the_training_split_is_found(images: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(images, tmp_path / "images")
    asked = sorted((folder / "val" / "cat").iterdir())[1]
    shutil.copy(asked, folder / "train" / "cat" / "planted.jpg")
    datamodule, task = build_parts(SmallImages(data_dir=folder, source="folder", num_workers=0))
    subject = Subject(task)
    position = [Path(id).name for id in datamodule.ids("val")].index(asked.name)
    (found,) = nearest(
        subject, TrainingFeatures(subject, datamodule), [example_of(subject, datamodule, "val", position)]
    )
    assert len(found) == 5
    assert (Path(found[0].id).name, found[0].target) == ("planted.jpg", "cat")
    assert found[0].similarity == pytest.approx(1, abs=1e-5)
    assert "the same as the input" in found[0].finding
    assert not any("the same as" in each.finding for each in found[1:])
    shown = found[0].shown
    assert isinstance(shown, np.ndarray)
    assert (shown.shape, shown.dtype) == ((32, 32, 3), np.uint8)
    assert [each.similarity for each in found] == sorted((each.similarity for each in found), reverse=True)


def test_a_mirrored_copy_and_a_text_with_a_word_changed_are_found_as_the_data_check_finds_them(
    images: Path, texts: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(images, tmp_path / "images")
    clouds = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((160, 120))
    clouds.save(folder / "val" / "cat" / "clouds.jpg")
    clouds.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "train" / "cat" / "turned.jpg")
    datamodule, task = build_parts(SmallImages(data_dir=folder, source="folder", num_workers=0, image_size=64))
    subject = Subject(task)
    position = [Path(id).name for id in datamodule.ids("val")].index("clouds.jpg")
    example = ImageExample("asked", example_of(subject, datamodule, "val", position).tensors[0])
    train = TrainingFeatures(subject, datamodule)
    (found,) = nearest(subject, train, [example], count=len(train))
    assert [(Path(one.id).name, one.finding) for one in found if one.finding.startswith("nearly")] == [
        ("turned.jpg", "nearly a copy of the input: mirrored")
    ]
    reviews = TextsLstm(data_dir=texts, vocabulary=Vocabulary(size=100, width=8), lstm=Recurrent(hidden=4))
    datamodule, task = build_parts(reviews)
    subject = Subject(task)
    everything = datamodule.raw_inputs("train", range(datamodule.sizes()["train"]))  # pyright: ignore[reportAttributeAccessIssue]
    longest = max(everything, key=len)
    asked_for = " ".join([*longest.split()[:-1], "superb" if longest.endswith("dull") else "dull"])
    (example,), _, _ = read_texts(datamodule, datamodule.spec, [asked_for])
    train = TrainingFeatures(subject, datamodule)
    (found,) = nearest(subject, train, [example], count=len(train))
    (odd,) = [one for one in found if one.shown == longest]
    assert re.search(r"nearly a copy of the input: 9\d% of the words", odd.finding)


def test_a_text_of_the_training_split_is_found_and_shown(texts: Path) -> None:
    experiment = TextsLstm(
        data_dir=texts,
        vocabulary=Vocabulary(size=100, width=8),
        lstm=Recurrent(hidden=4),
        prep=TextPrep(max_length=16),
    )
    datamodule, task = build_parts(experiment)
    subject = Subject(task)
    train = TrainingFeatures(subject, datamodule)
    own, other = nearest(
        subject, train, [example_of(subject, datamodule, split, 7) for split in ("train", "val")], count=3
    )
    (text,) = datamodule.raw_inputs("train", [7])  # pyright: ignore[reportAttributeAccessIssue]
    assert [each.shown for each in own if "the same as the input" in each.finding] == [text]
    assert own[0].id == datamodule.ids("train")[7]
    assert not any("the same as the input" in each.finding for each in other)


# -------------------------------------------------------------------------------- features that are the input
class Points(nn.Module):
    """A network whose features are its input."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(2, num_outputs)

    def features(self, numbers: Tensor, categories: Tensor) -> Tensor:
        return numbers

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        return self.head(self.features(numbers, categories))


class OnlyForward(nn.Module):
    """A network in one piece."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        return self.layer(numbers)


def around(degrees: float, count: int) -> Tensor:
    """Return points of about one direction, [count, 2]; no two have the same."""
    angles = torch.deg2rad(degrees + torch.linspace(-9, 9, count))
    return torch.stack([angles.cos(), angles.sin()], 1) * torch.linspace(1, 3, count)[:, None]


def made(spec: DataSpec, targets: Tensor, network: nn.Module, objective: Any) -> tuple[Subject, Tensors]:
    """Return data of two directions and a network; the first half of the targets is of the first direction."""
    half = len(targets) // 2
    numbers = torch.cat([around(20, half), around(70, half)])
    none = torch.zeros(len(numbers), 0, dtype=torch.long)
    train = {"numbers": numbers, "categories": none, "target": targets}
    datamodule = Tensors({"train": train, "val": {name: column[:1] for name, column in train.items()}}, spec)
    datamodule.fingerprint = "made"
    return Subject(Task(network, objective(spec), TableInput())), datamodule


CLASSES = DataSpec(classes=("cat", "dog"), class_counts=(10, 10))


def at(degrees: float) -> Example:
    radians = np.deg2rad(degrees)
    point = torch.tensor([[np.cos(radians), np.sin(radians)]], dtype=torch.float32)
    return Example("asked", (), (point, torch.zeros(1, 0, dtype=torch.long)))


def test_a_wrong_label_is_found_by_its_own_neighbours() -> None:
    targets = torch.tensor([0] * 10 + [1] * 10)
    targets[14] = 0  # its direction is 69 degrees
    subject, datamodule = made(CLASSES, targets, Points(2), SingleLabel)
    dogs, cats = nearest(subject, TrainingFeatures(subject, datamodule), [at(70), at(20)])
    odd = [each for each in dogs if each.finding]
    assert [(each.id, each.target) for each in odd] == [("14", "cat")]
    assert odd[0].finding == "labelled cat, all training examples nearest to it dog: perhaps mislabelled"
    assert [each.finding for each in cats] == [""] * 5


def test_an_input_between_two_classes_makes_no_label_wrong() -> None:
    subject, datamodule = made(CLASSES, torch.tensor([0] * 10 + [1] * 10), Points(2), SingleLabel)
    (found,) = nearest(subject, TrainingFeatures(subject, datamodule), [at(41.5)])
    assert [each.target for each in found] == ["cat"] * 4 + ["dog"], "one alone"
    assert [each.finding for each in found] == [""] * 5


def test_two_neighbours_are_too_few_to_doubt_a_label() -> None:
    spec = DataSpec(classes=("cat", "dog"), class_counts=(2, 1))
    columns = {
        "numbers": torch.cat([around(20, 2), around(24, 1)]),
        "categories": torch.zeros(3, 0, dtype=torch.long),
        "target": torch.tensor([0, 0, 1]),
    }
    datamodule = Tensors({"train": columns, "val": columns}, spec)
    datamodule.fingerprint = "made"
    subject = Subject(Task(Points(2), SingleLabel(spec), TableInput()))
    (found,) = nearest(subject, TrainingFeatures(subject, datamodule), [at(45)])
    assert [each.finding for each in found] == [""] * 3


def test_numbers_of_a_row_are_shortened(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=60), "area": 1e4 * rng.random(60), "year": rng.integers(1900, 2000, 60)})
    frame["code"] = [f"v{k}.123456789" for k in range(60)]
    frame["kind"] = np.where(frame["x"] > 0, "one", "two")
    frame.to_csv(tmp_path / "rows.csv", index=False)
    rows = built(TableClassification(data_dir=tmp_path / "rows.csv", target="kind", mlp=MLP, **FIELDS))
    train = TrainingFeatures(rows.subject, rows.datamodule)
    position = int(train.positions[0])
    shown, whole = train.shown(position), rows.datamodule.examples("train", [position])[0]
    cells, exact = (dict(pair.split(" ") for pair in str(text).split(", ")) for text in (shown, whole))
    assert [len(exact["x"].lstrip("-0.")) > 8, len(cells["x"].lstrip("-0.")) <= 4] == [True, True]
    assert float(cells["x"]) == pytest.approx(float(exact["x"]), rel=1e-3)
    assert cells["area"] == f"{float(exact['area']):.0f}"
    assert [cells[name] for name in ("year", "code", "kind")] == [exact[name] for name in ("year", "code", "kind")]


def test_what_the_data_check_said_stands_beside_a_neighbour(tmp_path: Path) -> None:
    """A wrong label, and a row that the validation split has too."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(300, 3)), columns=["x", "y", "z"])
    frame["kind"] = np.where(frame["x"] + frame["y"] > 0, "one", "two")
    frame["split"] = np.where(frame.index < 200, "train", "val")
    wrong = int((frame["x"] + frame["y"])[:200].argmax())
    frame.loc[wrong, "kind"] = "two"
    frame.loc[250, ["x", "y", "z", "kind"]] = frame.loc[(wrong + 1) % 200, ["x", "y", "z", "kind"]]
    for split, rows in frame.groupby("split"):
        rows.drop(columns="split").to_csv(tmp_path / f"{split}.csv", index=False)
    experiment = TableClassification(data_dir=tmp_path, target="kind", mlp=MLP, **FIELDS)
    rows = built(experiment)
    names = [*rows.datamodule.ids("train")]
    examples = [example_of(rows.subject, rows.datamodule, "train", place) for place in (wrong, (wrong + 1) % 200)]
    before = TrainingFeatures(rows.subject, rows.datamodule)
    assert any("scripts/check_data.py has not seen these data" in note for note in before.notes)
    assert not any("data check" in each.finding for near in nearest(rows.subject, before, examples) for each in near)
    check_data(experiment, CheckFlags(), "experiments/tables.py")
    after = TrainingFeatures(rows.subject, rows.datamodule)
    assert after.notes == []
    for near, name, said in zip(
        nearest(rows.subject, after, examples),
        (names[wrong], names[(wrong + 1) % 200]),
        (r"data check: labelled two, looks like one \([01]\.\d+\)", r"data check: the same as val \d+"),
        strict=True,
    ):
        (finding,) = [each.finding for each in near if each.id == name]
        assert re.search(said, finding)


def test_numbers_are_no_wrong_labels() -> None:
    spec = DataSpec(target=Target(kind="regression", name="price"))
    subject, datamodule = made(spec, torch.tensor([1.5] * 19 + [7.0]).double(), Points(1), Regression)
    (found,) = nearest(subject, TrainingFeatures(subject, datamodule), [at(78)])
    assert sorted(each.target for each in found) == ["1.5"] * 4 + ["7"]
    assert not any("mislabelled" in each.finding for each in found)


def test_what_is_only_nearly_the_same_is_not_called_the_same() -> None:
    subject, datamodule = made(CLASSES, torch.tensor([0] * 10 + [1] * 10), Points(2), SingleLabel)
    (found,) = nearest(subject, TrainingFeatures(subject, datamodule), [at(11.3)], count=1)
    assert found[0].finding == "the network can hardly tell it from the input"


def test_few_training_examples_and_little_time() -> None:
    subject, datamodule = made(CLASSES, torch.tensor([0, 0, 1, 1]), Points(2), SingleLabel)
    few = TrainingFeatures(subject, datamodule)
    assert (len(few), few.notes) == (4, [UNCHECKED])
    assert [len(near) for near in nearest(subject, few, [at(20), at(70)])] == [4, 4]
    assert nearest(subject, few, []) == []
    subject, datamodule = made(CLASSES, torch.tensor([0] * 100 + [1] * 100), Points(2), SingleLabel)
    part = TrainingFeatures(subject, datamodule, lambda: True)
    assert part.notes == [UNCHECKED, "neighbours are the nearest of 64 of 200 training examples"]
    assert 16 < (part.positions < 100).sum() < 48, "the part stands for all"


def test_a_network_without_features_has_no_neighbours() -> None:
    subject, datamodule = made(CLASSES, torch.tensor([0] * 4 + [1] * 4), OnlyForward(), SingleLabel)
    train = TrainingFeatures(subject, datamodule)
    assert train.notes == ["no training examples are shown: OnlyForward has no `features` to compare them by"]
    assert nearest(subject, train, [at(20), at(70)]) == [(), ()]
