from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import Dataset

from src import datamodules, tasks
from src.experiment import ClassificationExperiment, DataSpec


class Digits(Dataset):
    def __init__(self, first: int, last: int) -> None:
        images, labels = load_digits(return_X_y=True)
        self.rows = list(zip(images[first:last].astype("float32"), labels[first:last]))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int):
        return self.rows[i]


class MyDigits(ClassificationExperiment):
    def datamodule(self) -> datamodules.Plain:
        return datamodules.Plain(Digits(0, 1200), Digits(1200, 1500), Digits(1500, 1797), classes=10, seed=self.seed)

    def task(self, spec: DataSpec) -> tasks.Task:
        network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        return tasks.Task(network, self.objective(spec), tasks.inputs.PlainInput())


DEFAULT = MyDigits
