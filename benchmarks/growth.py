"""What an example costs as they grow more: pictures, texts and tables from a thousand to a million, made on the spot.

    python benchmarks/growth.py
    python benchmarks/growth.py --jobs csv parquet --sizes 1000000

Each size has a process of its own, which sets up the data, sets them up again from the cache, and then trains so many
steps, validates on a few batches and writes its run directory, as `run.py` would. Memory is the most that the process
has had beyond its imports: all of it, and without the pages of mapped files, which the system takes back when it needs
them.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import multiprocessing
import os
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd

from experiments.cats_dogs_finetune import CatsDogsScratch
from experiments.tables import TableRegression
from experiments.texts import TextsLstm
from src.experiment import Experiment
from src.runs import records
from src.training import build, runner
from src.training.trainer import keep_memory, quieten

SIDE, COLUMNS, WORDS, STEPS, VALIDATED = 16, 50, 20, 200, 20
PROCESSES = multiprocessing.get_context("spawn")


def pictures(folder: Path, size: int) -> None:
    """Write bitmaps of noise in two class folders; what stands on the disk is as many files as there are pictures."""
    rng = np.random.default_rng(0)
    pixels = SIDE * SIDE * 3
    header = struct.pack(
        "<2sIHHIIiiHHIIiiII", b"BM", 54 + pixels, 0, 0, 54, 40, SIDE, SIDE, 1, 24, 0, pixels, 0, 0, 0, 0
    )
    for name in ("dark", "light"):
        (folder / name).mkdir(parents=True)
    for i in range(size):
        level = 128 * (i % 2)
        noise = rng.integers(level, level + 128, pixels, np.uint8).tobytes()
        (folder / ("light" if i % 2 else "dark") / f"{i:07}.bmp").write_bytes(header + noise)


def texts(path: Path, size: int) -> None:
    """Write a table of texts of 20 words out of 20 000, of two labels."""
    rng = np.random.default_rng(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write("text,label\n")
        for _ in range(size):
            words = (20_000 * rng.random(WORDS) ** 3).astype(int)
            label = "good" if words.sum() % 2 else "bad"
            file.write(f"{' '.join(f'word{word}' for word in words)},{label}\n")


def table(path: Path, size: int) -> None:
    """Write 50 columns, five of them categories, and the number `y` that a row's first columns make."""
    rng = np.random.default_rng(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = rng.normal(size=(size, COLUMNS - 6)).astype(np.float32).round(4)
    frame = pd.DataFrame(numbers, columns=[f"x{i}" for i in range(COLUMNS - 6)])
    for i in range(5):
        frame[f"c{i}"] = np.array(["red", "green", "blue", "black"])[rng.integers(0, 4, size)]
    frame["y"] = numbers[:, 0] + numbers[:, 1] ** 2
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)


JOBS: dict[str, tuple[str, Callable[[Path, int], None], Callable[[Path], Experiment]]] = {
    "pictures": ("pictures", pictures, lambda path: CatsDogsScratch(data_dir=path, image_size=SIDE, max_epochs=1,
                 limit_train_batches=STEPS, limit_val_batches=VALIDATED)),
    "texts": ("texts.csv", texts, lambda path: TextsLstm(data_dir=path, max_epochs=1,
              limit_train_batches=STEPS, limit_val_batches=VALIDATED)),
    "csv": ("table.csv", table, lambda path: TableRegression(data_dir=path, target="y", max_epochs=1,
            limit_train_batches=STEPS, limit_val_batches=VALIDATED)),
    "parquet": ("table.parquet", table, lambda path: TableRegression(data_dir=path, target="y", max_epochs=1,
                limit_train_batches=STEPS, limit_val_batches=VALIDATED)),
}  # fmt: skip
"""Job -> file or folder, what makes it, and the experiment."""


class Memory:
    """Watches the most memory of this process, in MB, beyond what it has when made; Linux alone."""

    def __init__(self) -> None:
        gc.collect()
        self.before, self.most = self.now(), np.zeros(2)
        self.over = threading.Event()
        threading.Thread(target=self.watch, daemon=True).start()

    def now(self) -> np.ndarray:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return np.array([int(status.split(f"{name}:")[1].split()[0]) / 1024 for name in ("VmRSS", "RssAnon")])

    def watch(self) -> None:
        while not self.over.wait(0.02):
            self.most = np.maximum(self.most, self.now() - self.before)


def measure(job: str, folder: Path, size: int) -> None:
    """Print a row of the table: called in a process of its own."""
    os.environ |= {"LEYDEN_CACHE": str(folder / "cache"), "LEYDEN_RUNS": str(folder / "runs")}
    name, _, make = JOBS[job]
    experiment = make(folder / name)
    quieten()
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        build.build_parts(TableRegression(target="y"))  # imports
        keep_memory()  # as before a run sets up its data
        memory = Memory()
        times = [time.perf_counter()]
        for _ in range(2):
            build.build_parts(experiment)
            times.append(time.perf_counter())
        set_up = memory.most.copy()
        run = runner.run(experiment)
        times.append(time.perf_counter())
    memory.over.set()
    seconds, speed = np.diff(times), records.load(run)["samples_per_s"]
    each = " ".join(f"{spent:>8.2f} {1e6 * spent / size:>7.1f}" for spent in seconds)
    print(
        f"{job:<9}{size:>9} {each} {speed:>9.0f} {set_up[0]:>8.0f} {set_up[1]:>7.0f} "
        f"{memory.most[0]:>8.0f} {memory.most[1]:>7.0f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="where the data are made; else the system's temporary folder")
    options = parser.parse_args()
    print(f"{'':<19}{'set-up':>8} {'us each':>7} {'again':>8} {'us each':>7} {'run':>8} {'us each':>7}"
          f" {'train/s':>9} {'MB set-up':>8} {'unmapped':>7} {'MB all':>8} {'unmapped':>7}", flush=True)  # fmt: skip
    for job in options.jobs:
        for size in options.sizes:
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                name, make, _ = JOBS[job]
                make(Path(folder) / name, size)
                process = PROCESSES.Process(target=measure, args=(job, Path(folder), size))
                process.start()
                process.join()


if __name__ == "__main__":
    main()
