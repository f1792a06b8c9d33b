import torch
from lightning.pytorch import LightningDataModule, LightningModule
from sklearn.datasets import load_digits
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, random_split

from src.experiment import Experiment


class LitClassifier(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(64, 10)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self.layer(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", F.cross_entropy(self.layer(x), y))

    def test_step(self, batch, batch_idx):
        x, y = batch
        self.log("test_loss", F.cross_entropy(self.layer(x), y))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class DigitsDataModule(LightningDataModule):
    def setup(self, stage):
        x, y = load_digits(return_X_y=True)
        digits = TensorDataset(torch.tensor(x).float(), torch.tensor(y))
        self.train, self.val, self.test = random_split(digits, [1200, 297, 300])

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=32, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=32)

    def test_dataloader(self):
        return DataLoader(self.test, batch_size=32)


class MyLightning(Experiment):
    monitor = "val_loss"

    def datamodule(self):
        return DigitsDataModule()

    def task(self, spec):
        return LitClassifier()


DEFAULT = MyLightning
