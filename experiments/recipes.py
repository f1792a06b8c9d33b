"""What each recipe gives over a plain training: one field each.

Every figure is the mean of 3 seeds; nothing was chosen on the test split, and no recipe was tuned.
"""

from __future__ import annotations

from experiments.cats_dogs_finetune import CatsDogs, CatsDogsFinetune
from src import models, tasks
from src.experiment import Augment, DataSpec, Optim


class Plain(CatsDogs):
    """A small CNN from random weights on pictures of 48 pixels, cropped and mirrored; the recipes below change a field.

    python scripts/run.py experiments/recipes.py --seeds 0 1 2 --test
    """

    image_size = 48
    max_epochs = 10
    optim = Optim(lr=3e-3, weight_decay=0.05, warmup=0.1)

    dropout: float = 0.0
    """Dropout before the head."""

    def task(self, spec: DataSpec) -> tasks.ImageClassification:
        model = models.CNN(spec.num_classes, widths=(16, 32, 64, 128), dropout=self.dropout, weights=self.weights)
        return self.classifier(tasks.ImageClassification, model, spec)


class RandAugment(Plain):
    """Two random operations on each picture."""

    augment = Augment(randaugment=(2, 9))


class Erasing(Plain):
    """A rectangle of every second picture is made grey."""

    augment = Augment(erasing=0.5)


class MixUp(Plain):
    """Pictures are blended."""

    augment = Augment(mixup=0.2)


class CutMix(Plain):
    """Rectangles of pictures are exchanged."""

    augment = Augment(cutmix=1.0)


class LabelSmoothing(Plain):
    """A tenth of each target is spread over the classes."""

    label_smoothing = 0.1


class Dropout(Plain):
    """Dropout before the head."""

    dropout = 0.5


class Ema(Plain):
    """The exponential average of the weights."""

    averaging = "ema"


class Swa(Plain):
    """The equal average of the last quarter's epochs, at a rate that stays up."""

    averaging = "swa"
    optim = Optim(lr=3e-3, weight_decay=0.05, warmup=0.1, schedule="constant")


class Constant(Plain):
    """A rate that stays up: what Swa is to be compared with."""

    optim = Optim(lr=3e-3, weight_decay=0.05, warmup=0.1, schedule="constant")


class OneCycle(Plain):
    """Rate and momentum in one cycle."""

    optim = Optim(lr=3e-3, weight_decay=0.05, warmup=0.3, schedule="one_cycle")


class Linear(Plain):
    """The rate falls along a line."""

    optim = Optim(lr=3e-3, weight_decay=0.05, warmup=0.1, schedule="linear")


class Step(Plain):
    """The rate falls to a tenth after each third."""

    optim = Optim(lr=3e-3, weight_decay=0.05, warmup=0.1, schedule="step")


class Sgd(Plain):
    """SGD with momentum."""

    optim = Optim(name="sgd", lr=0.1, weight_decay=5e-4, warmup=0.1)


class Lamb(Plain):
    """LAMB, made for large batches."""

    optim = Optim(name="lamb", lr=5e-3, weight_decay=0.02, warmup=0.1)


class Growing(Plain):
    """Pictures of 24 pixels at first."""

    start_size = 0.5


class Mirrored(Plain):
    """Validated and tested on each picture and its mirror image."""

    views = "mirrored"


class Tuned(CatsDogsFinetune):
    """A plain fine-tuning of the whole backbone on pictures of 96 pixels; the recipes below change a field.

    python scripts/run.py experiments/recipes.py:Tuned --source drawn --seeds 0 1 2 --test
    """

    image_size = 96
    max_epochs = 6
    patience = None
    frozen = 0.0
    dropout = 0.0
    optim = Optim(lr=3e-4, weight_decay=0.05, warmup=0.1)


class TunedLayerRates(Tuned):
    """Rates that fall towards the input."""

    optim = Optim(lr=3e-4, weight_decay=0.05, warmup=0.1, layer_decay=0.7)


class TunedUnfreeze(Tuned):
    """One more layer group each epoch."""

    optim = Optim(lr=3e-4, weight_decay=0.05, warmup=0.1, unfreeze=True)


class TunedDropout(Tuned):
    """Dropout before the head."""

    dropout = 0.2


class TunedDropPath(Tuned):
    """Stochastic depth."""

    drop_path = 0.2


class TunedEma(Tuned):
    """The exponential average of the weights."""

    averaging = "ema"


class TunedGrowing(Tuned):
    """Pictures of 48 pixels at first."""

    start_size = 0.5


class TunedMirrored(Tuned):
    """Validated and tested on each picture and its mirror image."""

    views = "mirrored"


class TunedShifted(Tuned):
    """Validated and tested on ten views of each picture."""

    views = "shifted"


DEFAULT = Plain
