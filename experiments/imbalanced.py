"""One dog to twenty cats: what each method against imbalance gives."""

from __future__ import annotations

from experiments.images import Images
from src import datamodules
from src.experiment import Optim


class Imbalanced(Images):
    """Nothing is done: a linear head on the kept features of a frozen backbone, solved and trained on.

    python scripts/run.py experiments/imbalanced.py --seeds 0 1 2 --test
    """

    monitor = "val/balanced_acc"
    kept_features = "training"

    image_size = 96
    max_epochs = 10
    patience = 5
    backbone = "tf_efficientnet_lite0"
    optim = Optim(lr=1e-3, weight_decay=0.05, warmup=0.1)

    def datamodule(self) -> datamodules.RareDogs:
        return self.folder(datamodules.RareDogs)


class ImbalancedWeights(Imbalanced):
    """Each example weighs as much as its class is rare."""

    imbalance = "weights"


class ImbalancedSampler(Imbalanced):
    """Every class is drawn equally often."""

    imbalance = "sampler"


class ImbalancedFocal(Imbalanced):
    """The focal loss: examples that are told well weigh little."""

    imbalance = "focal"


class ImbalancedLogitAdjust(Imbalanced):
    """Logit adjustment: the classes' shares are added in training and left out after it."""

    imbalance = "logit_adjust"


DEFAULT = Imbalanced
