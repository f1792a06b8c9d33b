"""Any images: fine-tune a pretrained backbone on class folders, or on a table of images (CSV, TSV, Parquet).

A folder is root/{class} or root/{train,val,test}/{class}. A table has a column `path`, relative to its own folder, one
or several columns to predict, and maybe `split` with train, val and test.
"""

from __future__ import annotations

from experiments.bases.backbones import FineTuned, Probed, SmallCNN
from experiments.bases.images import ImageClasses, TableOfImages
from src import datamodules
from src.experiment import MultiLabelExperiment, RegressionExperiment


class AnyImages(ImageClasses, TableOfImages):
    """Class folders, or a table with one class an image."""

    target: str = "label"
    """Column of the class, where the data are a table."""

    def datamodule(self) -> datamodules.ImageFolder | datamodules.ImageTable:
        if self.data_dir is not None and self.data_dir.suffix and not self.data_dir.is_dir():
            return self.table()
        return self.folder(datamodules.ImageFolder)


class Images(AnyImages, FineTuned):
    """Fine-tune an ImageNet backbone to tell which class an image has.

    python scripts/run.py experiments/images.py --data-dir my_pictures
    python scripts/run.py experiments/images.py --data-dir photos.csv --target species
    Expected with the offline fallback backbone, --image-size 96, drawn sheets of shapes 800/200/400 by their table,
    the largest shape of each: test/acc 0.716 (0.695-0.738, 3 seeds), 53-73 s on 1 core; most frequent class 0.385,
    logistic regression on grey pixels 0.270
    """


class ImagesProbe(AnyImages, Probed):
    """Solve a linear head on the cached features of the frozen backbone, and train it on.

    python scripts/run.py experiments/images.py:ImagesProbe --data-dir my_pictures
    """


class ImagesCNN(AnyImages, SmallCNN):
    """Train a small CNN from random weights on images of 64 pixels.

    python scripts/run.py experiments/images.py:ImagesCNN --data-dir my_pictures
    """


class ImagesMultiLabel(MultiLabelExperiment, FineTuned, TableOfImages):
    """Fine-tune an ImageNet backbone to tell which labels, any number of them, an image has.

    python scripts/run.py experiments/images.py:ImagesMultiLabel --data-dir photos.csv
    python scripts/run.py experiments/images.py:ImagesMultiLabel --data-dir photos.csv --target cat dog
    Expected as above, without --data-dir, the kinds of shapes on a sheet: test/map 0.886 (0.884-0.892), f1_macro 0.796
    (0.779-0.811), 44-65 s; logistic regression on grey pixels map 0.565, f1_macro 0.525
    """

    target: tuple[str, ...] = ("labels",)
    """Column of the labels, as in cat;dog; or several columns of 0 and 1, one a label."""

    def datamodule(self) -> datamodules.ImageTable:
        return self.table()


class ImagesRegression(RegressionExperiment, FineTuned, TableOfImages):
    """Fine-tune an ImageNet backbone to predict a number from an image.

    python scripts/run.py experiments/images.py:ImagesRegression --data-dir photos.csv --target age
    Expected as above, the share of a sheet that shapes cover, in percent: test/rmse 1.74 (1.71-1.76), r2 0.873
    (0.870-0.878), 55-68 s; the mean of train rmse 4.92, ridge regression on grey pixels 4.95
    """

    target: str = "target"
    """Column of the number."""

    def datamodule(self) -> datamodules.ImageTable:
        return self.table()


DEFAULT = Images
