"""Networks, data sets and Lightning modules of the user's own, as README shows them: train, go on, test, compare."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Script
from lightning.pytorch import LightningDataModule, LightningModule
from test_readme import definitions
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from src import tasks
from src.callbacks import Interrupted
from src.datamodules import Plain
from src.experiment import ClassificationExperiment, DataSpec, Experiment, InputError
from src.runs import records
from src.studies.cross_validation import cross_validate
from src.studies.ensemble import ensemble
from src.tasks.inputs import PlainInput
from src.training import runner
from src.training.options import RunOptions

ROOT = Path(__file__).resolve().parents[1]
COUNTED = """
import os
from torch.utils.data import Dataset
from pathlib import Path

class Counted(Dataset):
    def __init__(self, inner): self.inner = inner
    def __len__(self): return len(self.inner)
    def __getitem__(self, i):
        with open(Path(os.environ["SEEN"]) / str(os.getpid()), "a") as file: file.write(f"{i} ")
        return self.inner[i]
"""


@pytest.fixture(scope="module")
def written() -> Iterator[dict[str, Path]]:
    """README's two examples, each with a training set that writes down which examples are seen: name -> file."""
    found: dict[str, Path] = {}
    for block in definitions():
        for name, before, after in (
            ("MyDigits", "Plain(Digits(0, 1200)", "Plain(Counted(Digits(0, 1200))"),
            ("MyLightning", "DataLoader(self.train,", "DataLoader(Counted(self.train),"),
        ):
            if f"class {name}(" in block.text:
                path = ROOT / "experiments" / f"zz_own_{name.lower()}_{os.getpid()}.py"
                assert before in block.text
                path.write_text(COUNTED + block.text.replace(before, after))
                found[name] = path
    yield found
    for path in found.values():
        path.unlink(missing_ok=True)


def seen_in(folder: Path) -> Counter[int]:
    return Counter(int(number) for file in folder.iterdir() for number in file.read_text().split())


def only_record(folder: Path) -> tuple[Path, dict[str, Any]]:
    (path,) = folder.glob("runs/*/*/run.json")
    return path.parent, json.loads(path.read_text())


@pytest.mark.parametrize("name", ["MyDigits", "MyLightning"])
def test_readmes_examples(name: str, written: dict[str, Path], script: Script, tmp_path: Path) -> None:
    (seen := tmp_path / "seen").mkdir()
    flags = ("--max-epochs", "2", "--accelerator", "cpu", "--test")
    done = script("run.py", written[name], *flags, SEEN=str(seen))
    assert done.returncode == 0, done.stderr
    run, record = only_record(tmp_path)
    monitor = "val_loss" if name == "MyLightning" else "val/loss"
    assert record["state"] == "done"
    assert record["best"]["name"] == monitor
    assert any(metric.startswith("test") for metric in record["metrics"])
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    again = script("run.py", "--resume", run, "--test", SEEN=str(seen))
    assert again.returncode == 0, again.stderr
    compared = script("compare.py", tmp_path / "runs")
    assert name in compared.stdout
    assert monitor in compared.stdout


@pytest.mark.parametrize("name", [pytest.param("MyDigits", marks=pytest.mark.slow), "MyLightning"])
def test_two_processes_see_each_example_once_an_epoch(
    name: str, written: dict[str, Path], script: Script, tmp_path: Path
) -> None:
    (seen := tmp_path / "seen").mkdir()
    flags = ("--max-epochs", "1", "--accelerator", "cpu", "--devices", "2", "--strategy", "ddp", "--batch-size", "24")
    exact = ("--precision", "32-true")  # auto may try steps first, which see examples too
    done = script("run.py", written[name], *flags, *exact, SEEN=str(seen))
    assert done.returncode == 0, done.stderr
    _, record = only_record(tmp_path)
    assert (record["state"], record["device"]) == ("done", "cpu x 2")
    counts = seen_in(seen)
    looked = set(range(32)) if name == "MyDigits" else {number for number, count in counts.items() if count > 1}
    assert len(looked) <= 64, "the first batch, from which each process takes the fingerprint"
    trained = {number: count for number, count in counts.items() if number not in looked}
    assert set(trained.values()) == {1}
    assert set(counts) <= set(range(1200))
    assert len(counts) >= 1200 - 48, "all but what does not fill a batch"


# ------------------------------------------------------------------------------------------- modules of one's own, here
class Digits(LightningDataModule):
    def setup(self, stage: str) -> None:
        generator = torch.Generator().manual_seed(0)
        inputs = torch.rand(48, 4, generator=generator)
        self.data = TensorDataset(inputs, (inputs[:, 0] > 0.5).long())

    def train_dataloader(self) -> Any:
        return DataLoader(self.data, batch_size=8, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(self.data, batch_size=8)


class Lit(LightningModule):
    def __init__(self, name: str = "val_loss", stops_at: int | None = None) -> None:
        super().__init__()
        self.layer, self.name, self.stops_at = nn.Linear(4, 2), name, stops_at

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        if self.current_epoch == self.stops_at:
            raise Interrupted(2)
        loss = nn.functional.cross_entropy(self.layer(batch[0] + torch.rand(1, device=self.device)), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log(self.name, nn.functional.cross_entropy(self.layer(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.01)


class Own(Experiment):
    monitor = "val_loss"

    max_epochs = 3
    accelerator = "cpu"
    name: str = "val_loss"
    """What the module logs."""
    stops_at: int | None = None
    """Epoch in which it is interrupted."""

    def datamodule(self) -> Any:
        return Digits()

    def task(self, spec: DataSpec) -> Any:
        return Lit(self.name, self.stops_at)


pytestmark = pytest.mark.usefixtures("quiet")


def weights(run: Path) -> dict[str, Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_a_run_goes_on_to_the_bit_from_the_end_of_an_epoch() -> None:
    whole = runner.run(Own())
    with pytest.raises(Interrupted):
        runner.run(Own(stops_at=2))
    (stopped,) = [run for run in whole.parent.iterdir() if run != whole]
    assert records.load(stopped)["state"] == "interrupted"
    runner.run(Own(), RunOptions(resume=stopped))
    rows = [[row for row in records.metrics(run) if "samples_per_s" not in row[2]] for run in (whole, stopped)]
    assert rows[0] == rows[1]
    assert all(torch.equal(value, weights(stopped)[name]) for name, value in weights(whole).items())


def test_all_seeds_have_the_same_data() -> None:
    found = {records.load(runner.run(Own(seed=seed, max_epochs=1)))["data"]["fingerprint"] for seed in (0, 1)}
    assert len(found) == 1


def test_the_run_says_what_it_cannot_promise(capsys: pytest.CaptureFixture[str]) -> None:
    record = records.load(runner.run(Own(max_epochs=1)))
    assert "goes on to the bit from the end of an epoch" in record["data"]["notes"][0]
    assert "datamodules.Plain goes on exactly" in capsys.readouterr().out


def test_a_monitor_that_is_not_logged_makes_the_last_epoch_the_best(capsys: pytest.CaptureFixture[str]) -> None:
    run = runner.run(Own(name="loss_of_val"))
    record = records.load(run)
    assert "best" not in record
    assert "val_loss is not logged, so best.ckpt is the last epoch; logged: " in capsys.readouterr().out
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(value, best[name]) for name, value in weights(run).items())


def test_patience_needs_the_monitor() -> None:
    with pytest.raises(InputError, match=r"--patience 1: .*loss_of_val"):
        runner.run(Own(name="loss_of_val", patience=1))


def test_what_a_module_of_ones_own_cannot_do_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--test: Digits has no test_dataloader"):
        runner.run(Own(), RunOptions(test=True))
    with pytest.raises(InputError, match=r"--baselines: Digits offers scikit-learn nothing to fit"):
        runner.run(Own(), RunOptions(baselines=True))
    with pytest.raises(InputError, match=r"--folds: Digits does not name its examples. Wrap its data sets in data"):
        cross_validate(Own(), 2)
    with pytest.raises(InputError, match=r"--ensemble: Lit is a module of your own"):
        ensemble(Own(), 2)
    assert not list(records.runs_dir().rglob("*.ckpt"))


class Network(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(4, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs)


class Misfit(ClassificationExperiment):
    def datamodule(self) -> Any:
        data = (torch.rand(8, 4), torch.arange(8) % 3)
        return Plain(data, data)

    def task(self, spec: DataSpec) -> tasks.Task:
        return tasks.Task(Network(2), self.objective(spec), PlainInput())


class NoModule(Misfit):
    def task(self, spec: DataSpec) -> Any:
        return Network(3)


class PlainData(Misfit):
    def datamodule(self) -> Any:
        return Digits()


@pytest.mark.parametrize(
    ("experiment", "message"),
    [
        (Misfit(), r"Network returns \[8, 2\] for a batch of 8 examples, but SingleLabel needs \[8, 3\]"),
        (NoModule(), r"NoModule.task\(\) returns a Network, not a LightningModule"),
        (PlainData(), r"SingleLabel: the spec names 0 classes.*datamodules.Plain"),
    ],
    ids=["outputs", "no Lightning module", "a task without our data"],
)
def test_parts_that_do_not_fit_are_refused_before_training(experiment: Experiment, message: str) -> None:
    with pytest.raises(InputError, match=message):
        runner.run(experiment)
