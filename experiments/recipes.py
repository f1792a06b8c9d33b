"""Plain trainings to compare recipes with: each recipe is one flag over one of these, and what pays is named below.

README's section "Recipes" has what each gave. No recipe was tuned, and nothing was chosen on a test split.
"""

from __future__ import annotations

from experiments.cats_dogs_finetune import CatsDogs, CatsDogsFinetune
from src import models, tasks
from src.experiment import DataSpec, Optim


class Plain(CatsDogs):
    """A small CNN from random weights on images of 48 pixels, cropped and mirrored.

    python scripts/run.py experiments/recipes.py --seeds 0 1 2 --test
    Measured on Dogs-vs-Cats photographs (2400/400/800), 3 seeds: test/acc 0.778 (0.776-0.780)
    """

    image_size = 48
    max_epochs = 10
    optim = Optim(lr=3e-3, weight_decay=0.05, warmup=0.1)

    dropout: float = 0.0
    """Dropout before the head."""

    def task(self, spec: DataSpec) -> tasks.Task:
        model = models.CNN(spec.num_classes, widths=(16, 32, 64, 128), dropout=self.dropout, weights=self.weights)
        return self.image_task(model, self.objective(spec), spec)


class Shifted(Plain):
    """Validated, tested and predicted on ten views of each image.

    python scripts/run.py experiments/recipes.py:Shifted --seeds 0 1 2 --test
    Measured on earlier checkpoints of `Plain`, 0.762: test/acc 0.771 (0.756-0.782), 1.0 points more (0.2-1.6)
    """

    views = "shifted"


class Tuned(CatsDogsFinetune):
    """A plain fine-tuning of the whole backbone on images of 96 pixels.

    python scripts/run.py experiments/recipes.py:Tuned --source drawn --seeds 0 1 2 --test
    Measured with the offline fallback backbone on synthetic images (800/200/400), 3 seeds: test/acc 0.988 (0.978-0.993)
    """

    image_size = 96
    max_epochs = 6
    patience = None
    frozen = 0.0
    dropout = 0.0
    optim = Optim(lr=3e-4, weight_decay=0.05, warmup=0.1)


DEFAULT = Plain
