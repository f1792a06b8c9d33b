"""Fashion-MNIST, clothes of 28 pixels: the tutorial's small CNN and a small residual network."""

from __future__ import annotations

from experiments.digits import DigitsCNN, DigitsResNet
from src.experiment import Optim


class FashionCNN(DigitsCNN):
    """The PyTorch tutorial's CNN, with a recipe for 50 000 images.

    python scripts/run.py experiments/fashion.py:FashionCNN --test
    Measured (50000/10000/10000, seed 0): test/acc 0.922, val/acc 0.928, 16 s an epoch on 1 core
    """

    dataset = "fashion-mnist"
    max_epochs = 20
    batch_size = 128
    shift = 1
    optim = Optim(lr=5e-3, weight_decay=0.05, warmup=0.1)


class FashionResNet(DigitsResNet):
    """The small residual network, mirrored.

    python scripts/run.py experiments/fashion.py --test
    Measured (50000/10000/10000, seed 0): test/acc 0.937, val/acc 0.942, 51 s an epoch on 1 core
    """

    dataset = "fashion-mnist"
    flip = True
    max_epochs = 15
    batch_size = 128
    shift = 1
    optim = Optim(lr=4e-3, weight_decay=0.05, warmup=0.1)


DEFAULT = FashionResNet
