"""Any images: fine-tune a pretrained backbone on class folders, or on a table of images (CSV, TSV, Parquet).

A folder is root/{class} or root/{train,val,test}/{class}. A table has a column `path`, relative to its own folder, one
or several columns to predict, and maybe `split` with train, val and test.
"""

from __future__ import annotations

from experiments.bases.backbones import FineTuned
from experiments.bases.images import ImageClasses, TableOfImages
from src import datamodules
from src.experiment import MultiLabelExperiment, RegressionExperiment


class Images(ImageClasses, FineTuned, TableOfImages):
    """Fine-tune an ImageNet backbone to tell which class an image has.

    python scripts/run.py experiments/images.py --data-dir my_pictures
    python scripts/run.py experiments/images.py --data-dir photos.csv --target species
    """

    target: str = "label"
    """Column of the class, where the data are a table."""

    def datamodule(self) -> datamodules.ImageFolder | datamodules.ImageTable:
        if self.data_dir is not None and self.data_dir.suffix and not self.data_dir.is_dir():
            return self.table(self.target)
        return self.folder(datamodules.ImageFolder)


class ImagesMultiLabel(MultiLabelExperiment, FineTuned, TableOfImages):
    """Fine-tune an ImageNet backbone to tell which labels, any number of them, an image has.

    python scripts/run.py experiments/images.py:ImagesMultiLabel --data-dir photos.csv
    python scripts/run.py experiments/images.py:ImagesMultiLabel --data-dir photos.csv --target cat dog
    """

    target: tuple[str, ...] = ("labels",)
    """Column of the labels, as in cat;dog; or several columns of 0 and 1, one a label."""

    def datamodule(self) -> datamodules.ImageTable:
        return self.table(self.target)


class ImagesRegression(RegressionExperiment, FineTuned, TableOfImages):
    """Fine-tune an ImageNet backbone to predict a number from an image.

    python scripts/run.py experiments/images.py:ImagesRegression --data-dir photos.csv --target age
    """

    target: str = "target"
    """Column of the number."""

    def datamodule(self) -> datamodules.ImageTable:
        return self.table(self.target)


DEFAULT = Images
