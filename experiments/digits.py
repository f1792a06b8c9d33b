"""Handwritten digits of 28 pixels: softmax regression, the tutorials' small CNNs, a small residual network.

Where MNIST or Fashion-MNIST is not available, scikit-learn's digits stand in; `--source` names another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from src import datamodules, models, tasks
from src.experiment import ClassificationExperiment, DataSpec, Optim

if TYPE_CHECKING:
    from torch import nn


class DigitsData(ClassificationExperiment):
    """The data that all experiments of this file share; each member adds its model."""

    monitor = "val/acc"
    mode = "max"

    batch_size = 64
    dataset: Literal["mnist", "fashion-mnist"] = "mnist"
    """Data set; where it is not available, another stands in."""
    image_size: int = 28
    """Side in pixels of the images that the model sees."""
    shift: int = 0
    """Move training images by up to so many pixels each way."""
    flip: bool = False
    """Mirror every second training image left to right."""
    optim: Optim = Optim()
    """Optimiser and schedule."""

    def datamodule(self) -> datamodules.Digits:
        return datamodules.Digits(
            self.data_dir,
            source=self.source,
            dataset=self.dataset,
            image_size=self.image_size,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            seed=self.seed,
            shift=self.shift,
            flip=self.flip,
        )

    def trained(self, model: nn.Module, spec: DataSpec) -> tasks.Task:
        """Build a task with the experiment's fields."""
        return tasks.Task(model, self.objective(spec), tasks.inputs.ImageInput(spec), self.optim)


class SoftmaxRegression(DigitsData):
    """One linear layer on the pixels: multinomial logistic regression, the mark that a network has to beat.

    python scripts/run.py experiments/digits.py:SoftmaxRegression --test
    Expected on scikit-learn's digits (1259/269/269): test/acc 0.967 (0.959-0.974, 5 seeds), 6 s
    """

    max_epochs = 30
    optim = Optim(lr=3e-2, weight_decay=0.0, warmup=0.1)

    def task(self, spec: DataSpec) -> tasks.Task:
        return self.trained(models.Linear(spec, spec.num_classes, weights=self.weights), spec)


class DigitsCNN(DigitsData):
    """The PyTorch tutorial's CNN: two 5x5 convolutions of 16 and 32 channels with batch norm, one linear layer.

    python scripts/run.py experiments/digits.py --test
    Expected on scikit-learn's digits (1259/269/269): test/acc 0.991 (0.989-0.993, 5 seeds), 10 s

    After https://github.com/yunjey/pytorch-tutorial, convolutional_neural_network; its rate, epochs and images that
    never move are replaced.
    """

    max_epochs = 15
    shift = 2
    optim = Optim(lr=3e-3, weight_decay=0.01, warmup=0.1)

    def task(self, spec: DataSpec) -> tasks.Task:
        model = models.CNN(
            spec.num_classes,
            in_channels=1,
            widths=(16, 32),
            kernel_size=5,
            flatten=spec.input_shape[-1],
            dropout=0.0,
            weights=self.weights,
        )
        return self.trained(model, spec)


class KerasCNN(DigitsData):
    """The Keras tutorial's CNN: 3x3 convolutions of 32, 64 and 64 channels and a dense layer of 64, without batch norm.
    Five epochs of Adam, then five more of fine-tuning at a tenth of the rate.

    python scripts/run.py experiments/digits.py:KerasCNN --test
    Expected on scikit-learn's digits: test/acc 0.954 (0.944-0.963, 5 seeds), 8 s

    After https://www.tensorflow.org/tutorials/images/cnn.
    """

    batch_size = 32
    optim = Optim(name="adam", lr=1e-3, weight_decay=0.0, schedule="step", step_share=0.5)

    def task(self, spec: DataSpec) -> tasks.Task:
        model = models.CNN(
            spec.num_classes,
            in_channels=1,
            widths=(32, 64, 64),
            padding=0,
            norm=False,
            pooled=2,
            flatten=spec.input_shape[-1],
            hidden=64,
            dropout=0.0,
            weights=self.weights,
        )
        return self.trained(model, spec)


class DigitsResNet(DigitsData):
    """A small residual network: three blocks of convolution and pooling, each followed by a residual pair.

    python scripts/run.py experiments/digits.py:DigitsResNet --test
    Expected on scikit-learn's digits: test/acc 0.995 (0.989-1.000, 5 seeds)

    After ResNet-9 (https://github.com/davidcpage/cifar10-fast), of a quarter of its width.
    """

    max_epochs = 12
    shift = 2
    optim = Optim(lr=3e-3, weight_decay=0.05, warmup=0.1)

    def task(self, spec: DataSpec) -> tasks.Task:
        model = models.CNN(spec.num_classes, in_channels=1, widths=(32, 64, 128), residual=True, weights=self.weights)
        return self.trained(model, spec)


DEFAULT = DigitsCNN
