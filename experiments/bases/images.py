"""What all experiments on images share: the data, and the columns of a table of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar

from src import datamodules, tasks
from src.experiment import (
    Augment,
    ClassificationExperiment,
    Csv,
    DataSpec,
    Experiment,
    InputError,
    Optim,
    TargetKind,
    Views,
)

if TYPE_CHECKING:
    from torch import nn

Folder = TypeVar("Folder", bound="datamodules.ImageFolder")


class ImageData(Experiment):
    """The data. A subclass adds what is predicted, and a model."""

    cached_features: ClassVar[Literal["no", "start", "probe"]] = "no"

    image_size: int = 224
    """Side in pixels of the images that the model sees."""
    augment: Augment = Augment()
    """Random changes of training images."""
    cache: bool = True
    """Keep decoded images in a memory-mapped file; otherwise decode them again each epoch."""
    optim: Optim = Optim()
    """Optimiser and schedule."""
    start_size: float = 1.0
    """Side of training images at first, as a share of image_size; whole for the last quarter of the epochs."""
    views: Views = "one"
    """Views of an image whose predictions validation, test and prediction average: the image itself; mirrored too;
    both shifted into the four corners too, ten in all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.start_size <= 1:
            raise InputError(f"--start-size {self.start_size}: a share above 0 and at most 1.")

    def folder(self, kind: type[Folder]) -> Folder:
        """Build a data module of class folders with the experiment's fields."""
        return kind(
            self.data_dir,
            source=self.source,
            image_size=self.image_size,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            seed=self.seed,
            augment=self.augment,
            cache=self.cache,
        )

    def image_task(
        self, model: nn.Module, objective: tasks.Objective, spec: DataSpec, *, channels_last: bool = True
    ) -> tasks.Task:
        """Build a task on images with the experiment's fields."""
        images = tasks.inputs.ImageInput(
            spec, channels_last=channels_last, augment=self.augment, start_size=self.start_size, views=self.views
        )
        return tasks.Task(model, objective, images, self.optim, cached_features=self.cached_features)


class ImageClasses(ClassificationExperiment, ImageData):
    """One class an image."""

    monitor = "val/acc"
    mode = "max"


class TableOfImages(ImageData):
    """Images that a table names."""

    predicts: ClassVar[TargetKind]

    target: str | tuple[str, ...] = "label"
    """Column to predict, or several, one a label."""
    path_column: str = "path"
    """Column of the images' files, relative to the table's folder."""
    csv: Csv = Csv()
    """How the table's cells are written, where that is not to be found out."""
    target_kind: TargetKind | None = None
    """How to read the target column where it could be read as several kinds."""

    def check(self) -> None:
        super().check()
        if self.data_dir is not None and self.data_dir.is_file():
            targets = [self.target] if isinstance(self.target, str) else self.target
            wanted = {"--path-column": [self.path_column], "--target": targets}
            datamodules.require_columns(self.data_dir, self.csv, wanted)

    def table(self) -> datamodules.ImageTable:
        """Build a data module of a table with the experiment's fields."""
        return datamodules.ImageTable(
            self.data_dir,
            target=self.target,
            predicts=self.predicts,
            target_kind=self.target_kind,
            path_column=self.path_column,
            csv=self.csv,
            source=self.source,
            image_size=self.image_size,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            seed=self.seed,
            augment=self.augment,
            cache=self.cache,
        )
