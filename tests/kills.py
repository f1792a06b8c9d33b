"""Runs that are killed at any moment and go on, against the same run left alone: what the tests of resuming share.

As a command, the table of many random kills: `python tests/kills.py 50`; and eight processes that go on with one run at
once, many times: `python tests/kills.py --race 20`.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import itertools
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, ClassVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd
import psutil
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from experiments.bases.backbones import FineTuned
from experiments.cats_dogs_finetune import CatsDogsProbe, CatsDogsScratch
from experiments.images import ImagesMultiLabel
from experiments.tables import TableMultiLabel, TableRegression
from experiments.texts import TextsLstm, TextsRegression
from src.cli import commands
from src.cli.parser import RunFlags
from src.experiment import Augment, DataSpec, Experiment, Optim, Perceptron, Vocabulary
from src.runs import records, state

HERE = Path(__file__).resolve().parent
MOMENTS = ("before fsync", "before rename", "after rename")
OF_TIME = ("train/samples_per_s", "train/tokens_per_s")
"""Metrics that say how fast it went."""


class Signals(Callback):
    """Sends its own process a signal in a step, or at the end of a training that ends before."""

    def __init__(self, number: int, step: int) -> None:
        self.number, self.step = number, step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step < self.step:
            os.kill(os.getpid(), self.number)


class Waits(Callback):
    """Begins to train when there is a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        while not self.path.exists():
            time.sleep(0.05)


class Mortal(Experiment):
    """Ends itself where it is told to."""

    dies_at: int | None = None
    """Step; at the end of the training if that comes before."""
    by: int = signal.SIGKILL
    """Signal."""
    saves: str = "2"
    """`--checkpoint-every`."""
    waits_for: Path | None = None
    """A file, before its training begins."""
    logger = ("csv",)
    children: ClassVar[dict[str, int]] = {}
    """`--folds` or `--ensemble`."""

    def callbacks(self) -> list[Callback]:
        waits: list[Callback] = [] if self.waits_for is None else [Waits(self.waits_for)]
        return waits if self.dies_at is None else [*waits, Signals(self.by, self.dies_at)]


class Images(Mortal, CatsDogsScratch):
    """A small CNN on images that are cropped, mirrored and coloured at random."""

    image_size = 32
    batch_size = 4
    max_epochs = 3
    accelerator = "cpu"


class Recipes(Images):
    """All recipes at once that draw, or that keep or follow something over the steps."""

    averaging = "ema"
    start_size = 0.5
    augment = Augment(randaugment=(2, 9), erasing=0.5, mixup=0.2, cutmix=1.0)
    optim = Optim(name="lamb", lr=3e-3, schedule="one_cycle", warmup=0.3, unfreeze=True)


class SmallBackbone(Mortal, FineTuned):
    """A backbone that trains in seconds."""

    backbone = "test_resnet"
    offline_backbone = "test_resnet"
    weights = "none"
    image_size = 32
    batch_size = 4
    max_epochs = 3
    accelerator = "cpu"


class Cached(SmallBackbone, CatsDogsProbe):
    """A head on features that were kept of a frozen network; it starts solved."""


class Texts(Mortal, TextsLstm):
    """An LSTM with dropout of words, embedding and head, on batches of like length; validated within its epochs."""

    logger = ("tensorboard",)
    batch_size = 4
    max_epochs = 3
    validations = 2
    accelerator = "cpu"
    vocabulary = Vocabulary(size=100, width=8)


class ImageTags(SmallBackbone, ImagesMultiLabel):
    """Several labels an image, from a table: a backbone whose head starts solved, then trained."""


class TextStars(Mortal, TextsRegression):
    """A number for a text."""

    target = "stars"
    batch_size = 4
    max_epochs = 3
    accelerator = "cpu"
    vocabulary = Vocabulary(size=100, width=8)


class TableTags(Mortal, TableMultiLabel):
    """Several labels a row."""

    target = ("tags",)
    batch_size = 8
    max_epochs = 6
    accelerator = "cpu"
    mlp = Perceptron(width=16, dropout=0.3)


class PlainData(LightningDataModule):
    """Random rows of two classes, in Lightning's own loaders."""

    def __init__(self, num_workers: int) -> None:
        super().__init__()
        self.num_workers = num_workers

    def setup(self, stage: str) -> None:
        inputs = torch.rand(200, 4, generator=torch.Generator().manual_seed(0))
        self.data = TensorDataset(inputs, (inputs[:, 0] > 0.5).long())

    def train_dataloader(self) -> Any:
        return DataLoader(self.data, batch_size=8, shuffle=True, num_workers=self.num_workers)

    def val_dataloader(self) -> Any:
        return DataLoader(self.data, batch_size=8, num_workers=self.num_workers)


class PlainModule(LightningModule):
    """A network with dropout, as Lightning's documentation writes one."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 2))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = nn.functional.cross_entropy(self.network(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_loss", nn.functional.cross_entropy(self.network(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.01)


class Lightning(Mortal):
    """Nothing of Leyden's parts: such a run goes on from the end of an epoch."""

    saves = "10min"
    num_workers = 0
    max_epochs = 6
    accelerator = "cpu"
    monitor = "val_loss"
    mode = "min"

    def task(self, spec: DataSpec) -> Any:
        return PlainModule()

    def datamodule(self) -> Any:
        return PlainData(self.num_workers or 0)


class Numbers(Mortal, TableRegression):
    """An MLP with dropout on a table, gradients of two batches added for each step."""

    batch_size = 8
    max_epochs = 6
    accumulate = 2
    patience = 4
    accelerator = "cpu"
    target = "price"
    mlp = Perceptron(width=16, dropout=0.3)


class Folds(Numbers):
    """A cross-validation."""

    max_epochs = 3
    children = {"folds": 3}  # noqa: RUF012


class Members(Numbers):
    """An ensemble."""

    max_epochs = 3
    children = {"ensemble": 2}  # noqa: RUF012


class Shared(Numbers):
    """The same in two processes."""

    devices = "2"
    strategy = "ddp"
    num_workers = 0


class Averaged(Numbers):
    """The same by SGD, with the equal average of its last epochs."""

    averaging = "swa"
    optim = Optim(name="sgd", lr=0.01, schedule="one_cycle", warmup=0.3)


@functools.cache
def server() -> Any:
    """Return what forks processes that have imported all they need and done nothing yet.

    What threads a test has started, tokenizers' for one, must not be theirs.
    """
    context = multiprocessing.get_context("forkserver")
    heavy = ("callbacks.evaluation", "models.images.cnn", "models.tables.mlp", "models.texts.lstm", "tasks.named")
    data = ("images.cats_dogs", "images.image_table", "plain", "tables.table", "texts.text_table")
    modules = (*heavy, *(f"datamodules.{name}" for name in data))
    context.set_forkserver_preload(["kills", *(f"src.{name}" for name in modules)])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, (HERE, HERE.parent)))  # Python 3.11's does not hear of sys.path
    forkserver.ensure_running()
    os.environ.pop("PYTHONPATH")
    if before is not None:
        os.environ["PYTHONPATH"] = before
    return context


def start(work: Callable[..., int], *args: Any) -> Any:
    """Begin to do something in a process of its own, of one thread; its exit code is what `work` returns."""
    process = server().Process(target=_child, args=(dict(os.environ), work, args))
    process.start()
    return process


def _child(environment: dict[str, str], work: Callable[..., int], args: tuple[Any, ...]) -> None:
    os.setsid()
    os.environ.update(environment)
    multiprocessing.set_start_method("fork", force=True)  # of the loaders' workers, as in a user's process
    torch.set_num_threads(1)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    os._exit(work(*args))


def in_process(work: Callable[..., int], *args: Any, kill_after: float | None = None) -> int | None:
    """Do something in a process of its own, killed after so many seconds; return its exit code."""
    process = start(work, *args)
    process.join(kill_after)
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    with contextlib.suppress(ProcessLookupError):  # workers that were just being born do not see that they are orphans
        os.killpg(process.pid, signal.SIGKILL)
    return process.exitcode


def train(experiment: Mortal) -> int:
    return go_on(experiment, None)


def go_on(experiment: Mortal, run: Path | None) -> int:
    children = {} if run else experiment.children
    flags = RunFlags(checkpoint_every=experiment.saves, resume=run)
    return commands.run_all([experiment], replace(flags, **children))


def together(experiment: Mortal, folder: Path, processes: int = 8) -> tuple[Path, list[int]]:
    """Kill a run in its midst, have so many processes go on with it at once, and return it and their exit codes."""
    os.environ["LEYDEN_RUNS"] = str(folder)
    in_process(train, experiment if experiment.dies_at else replace(experiment, dies_at=10))
    run = only_run(folder)
    assert run is not None
    ended = folder.with_name(f"{folder.name}-ended")  # until all others have, the one that works goes on working
    started = [start(go_on, replace(experiment, dies_at=None, waits_for=ended), run) for _ in range(processes)]
    until = time.monotonic() + 60
    while sum(process.is_alive() for process in started) > 1 and time.monotonic() < until:
        time.sleep(0.05)
    ended.touch()
    for process in started:
        process.join()
    return run, [process.exitcode for process in started]


def only_run(folder: Path) -> Path | None:
    found = [record.parent for record in folder.glob("*/*/run.json")]
    assert len(found) < 2, found
    return found[0] if found else None


def differences(one: Path, other: Path) -> list[str]:
    """Return what differs between two finished runs: weights, optimiser, schedule, metrics, predictions, best value."""
    first, second = (records.load(run) for run in (one, other))
    found = [
        name for name in ("best", "metrics", "per_class", "state", "reason") if first.get(name) != second.get(name)
    ]
    if children := state.children(other):
        pairs = [(one / child.name, child) for child in children]
        return found + [f"{child.name}: {what}" for mine, child in pairs for what in differences(mine, child)]
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (one, other)]
    parts = ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch")
    for part in (*parts, "current_model_state", "averaging_state"):  # the last two where weights are averaged
        if not alike(*(state.get(part) for state in states)):
            found.append(part)
    histories = [
        Counter((epoch, step, name, value) for epoch, step, name, value in records.metrics(run) if name not in OF_TIME)
        for run in (one, other)
    ]
    if histories[0] != histories[1]:
        found.append(f"metrics.csv: {sorted((histories[0] - histories[1]) | (histories[1] - histories[0]))[:4]}")
    if predictions(one) != predictions(other):
        found.append("predictions_val.csv")
    return found


def predictions(run: Path) -> bytes | None:
    """Return the predictions on the validation split; None where a run has none, as a plain module's."""
    path = run / "predictions_val.csv"
    return path.read_bytes() if path.exists() else None


def alike(one: Any, other: Any) -> bool:
    """Return whether two nested values are the same to the bit."""
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(one == other)


def write_texts(path: Path) -> Path:
    rng = np.random.default_rng(0)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "stars"])
        words = ["the", "film", "was", "a", "plot", "fine", "dull", "superb", "poor"]
        writer.writerows([" ".join(rng.choice(words, rng.integers(3, 20))), i % 2, i % 5] for i in range(120))
    return path


def write_table(path: Path) -> Path:
    rng = np.random.default_rng(0)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["area", "rooms", "town", "price"])
        for _ in range(200):
            area, rooms = rng.uniform(30, 200), rng.integers(1, 7)
            writer.writerow(
                [f"{area:.1f}", rooms, rng.choice(["Ghent", "Leyden"]), f"{1000 * area + 5000 * rooms:.0f}"]
            )
    return path


def write_tagged(path: Path) -> Path:
    rng = np.random.default_rng(0)
    inputs = rng.random((200, 3))
    tags = [";".join(tag for tag, one in zip("abc", row, strict=True) if one > 0.5) for row in inputs]
    pd.DataFrame(inputs, columns=["one", "two", "three"]).assign(tags=tags).to_csv(path, index=False)
    return path


def write_photos(images: Path) -> Path:
    """Write a table of the images below a folder, with a label each for its class and for its number."""
    path = images / "photos.csv"
    files = sorted(images.rglob("*.jpg"))
    labels = [";".join([file.parent.name, *(["even"] if int(file.stem) % 2 == 0 else [])]) for file in files]
    pd.DataFrame({"path": [file.relative_to(images) for file in files], "labels": labels}).to_csv(path, index=False)
    return path


def experiments(folder: Path, images: Path) -> list[Mortal]:
    """Return one of each kind, in the main process and with two workers."""
    texts, table = write_texts(folder / "texts.csv"), write_table(folder / "table.csv")
    tagged, photos = write_tagged(folder / "tagged.csv"), write_photos(images)
    return [
        kind(data_dir=data, num_workers=workers)
        for workers in (0, 2)
        for kind, data in (
            (Images, images),
            (Recipes, images),
            (Cached, images),
            (Texts, texts),
            (Numbers, table),
            (Averaged, table),
            (Folds, table),
            (Members, table),
            (ImageTags, photos),
            (TextStars, texts),
            (TableTags, tagged),
            (Lightning, None),
        )
    ]


def kill_and_go_on(experiment: Mortal, folder: Path, moments: Sequence[float]) -> Path:
    """Kill a run, and then itself going on, after each of so many seconds; let it end and return it."""
    os.environ["LEYDEN_RUNS"] = str(folder)
    for seconds in moments:
        run = only_run(folder)
        in_process(go_on, experiment, run, kill_after=seconds)
    run = only_run(folder)
    if run is None or records.load(run)["state"] != "done":
        assert in_process(go_on, experiment, run) == 0
    run = only_run(folder)
    assert run is not None
    return run


def train_until_write(experiment: Mortal, number: int, moment: str) -> int:
    """Train, and die in the `number`-th file that is written whole: before its fsync, before or after its rename."""
    writes = itertools.count(1)
    fsync, rename = os.fsync, Path.replace

    def until_fsync(handle: int) -> None:
        if moment == MOMENTS[0] and next(writes) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(handle)

    def until_rename(path: Path, target: Any) -> Path:
        dies = moment != MOMENTS[0] and next(writes) == number
        if dies and moment == MOMENTS[1]:
            os.kill(os.getpid(), signal.SIGKILL)
        renamed = rename(path, target)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return renamed

    os.fsync = until_fsync
    Path.replace = until_rename  # pyright: ignore[reportAttributeAccessIssue]
    return train(experiment)


def in_two(experiment: Shared, run: Path | None, victim: int | None = None, seconds: float = 0.0) -> int:
    """Run or go on with an experiment in two processes, kill one of them after so many seconds; return the exit code of
    the first. Both have to end by themselves."""
    command = [sys.executable, __file__, "--shared", str(experiment.data_dir), *([str(run)] if run else [])]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        both = [psutil.Process(first.pid)]
        if victim is not None:
            until = time.monotonic() + 120
            while len(both) < 2 and first.poll() is None and time.monotonic() < until:
                with contextlib.suppress(psutil.NoSuchProcess):  # one that has just ended
                    both[1:] = [one for one in both[0].children() if "--shared" in one.cmdline()][:1]
                time.sleep(0.05)
            time.sleep(seconds)
            with contextlib.suppress(psutil.NoSuchProcess, IndexError):
                both[victim].kill()
        first.wait(120)
        psutil.wait_procs(both, timeout=60)
        assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in both), "it waits for ever"
        return first.returncode


def shared(folder: Path, experiment: Shared, victim: int | None = None, seconds: float = 0.0) -> tuple[Path, int]:
    """Kill one process of a run of two, let the run go on to its end; return it and the step that it had reached."""
    os.environ["LEYDEN_RUNS"] = str(folder)
    in_two(experiment, None, victim, seconds)
    run = only_run(folder)
    at = last_step(run)
    if run is None or records.load(run)["state"] != "done":
        assert in_two(experiment, run) == 0
    run = only_run(folder)
    assert run is not None
    return run, at


def main(kills: int, seed: int = 0) -> int:
    """Kill `kills` times at random, print what was killed where, and return how many of the runs differ.

    Of each ten kills seven come after a random time, two within a random write; one is of either process of two.
    """
    rng = random.Random(seed)
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        from src.datamodules.synthetic.images import draw_folder

        folder = Path(name)
        os.environ["LEYDEN_CACHE"] = str(folder / "cache")
        draw_folder(folder / "images", train=48, val=16, test=16)
        kinds = experiments(folder, folder / "images")
        alone, seconds = [], []
        for number, experiment in enumerate(kinds):
            started = time.monotonic()
            alone.append(kill_and_go_on(experiment, folder / f"alone-{number}", ()))
            seconds.append(time.monotonic() - started)
        two = Shared(data_dir=folder / "table.csv")
        two_alone, _ = shared(folder / "alone-two", two)
        print(f"{'killed':<7} {'experiment':<10} {'workers':>7}  {'how':<28}  {'at step':>7}  differs in", flush=True)
        for kill in range(kills):
            number = rng.randrange(len(kinds))
            runs = folder / f"killed-{kill}"
            os.environ["LEYDEN_RUNS"] = str(runs)
            if kill % 10 == 9:
                victim = rng.randrange(2)
                after = rng.uniform(0, 6)
                run, at = shared(runs, two, victim, after)
                how, experiment, found = f"process {victim} after {after:.1f} s", two, differences(run, two_alone)
            else:
                experiment = kinds[number]
                if kill % 10 < 7:
                    after = rng.uniform(0.1, 0.95) * seconds[number]
                    code, how = in_process(train, experiment, kill_after=after), f"after {after:.1f} s"
                else:
                    write, moment = rng.randint(1, 15), rng.choice(MOMENTS)
                    code, how = in_process(train_until_write, experiment, write, moment), f"write {write}, {moment}"
                at = last_step(only_run(runs)) if code else "done"
                found = differences(kill_and_go_on(experiment, runs, ()), alone[number])
            wrong += bool(found)
            shown = f"{kill + 1:<7} {type(experiment).__name__:<10} {experiment.num_workers:>7}  {how:<28}  {at:>7}"
            print(f"{shown}  {'; '.join(found) or '-'}", flush=True)
            shutil.rmtree(runs, ignore_errors=True)
    print(f"{kills} kills, {wrong} differences")
    return wrong


def last_step(run: Path | None) -> int:
    """Return the last step that a run, or the last of its children that has begun, has written down."""
    if run is None:
        return 0
    rows = records.metrics((state.children(run) or [run])[-1])
    return max((step for _, step, _, _ in rows), default=0)


def race(rounds: int, seed: int = 0) -> int:
    """Have eight processes go on with one killed run at once, `rounds` times; return how often not exactly one did."""
    rng = random.Random(seed)
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["LEYDEN_CACHE"] = str(folder / "cache")
        experiment = Numbers(data_dir=write_table(folder / "table.csv"), num_workers=0)
        alone = kill_and_go_on(experiment, folder / "alone", ())
        for number in range(rounds):
            at = rng.randrange(2, 50)
            run, codes = together(replace(experiment, dies_at=at), folder / f"round-{number}")
            found = differences(run, alone)
            wrong += sorted(codes) != [0] + [1] * 7 or bool(found)
            print(
                f"round {number + 1:<3} killed at step {at:<3} exit codes {codes}  {'; '.join(found) or '-'}",
                flush=True,
            )
    print(f"{rounds} rounds of eight processes, {wrong} wrong")
    return wrong


if __name__ == "__main__":
    if sys.argv[1:2] == ["--shared"]:  # Lightning starts the second process by the same command
        sys.exit(go_on(Shared(data_dir=Path(sys.argv[2])), Path(sys.argv[3]) if sys.argv[3:] else None))
    if sys.argv[1:2] == ["--race"]:
        sys.exit(1 if race(int(sys.argv[2])) else 0)
    sys.exit(1 if main(int(sys.argv[1]) if len(sys.argv) > 1 else 50) else 0)
