"""What each of two processes does, which are started by the tests that read what it leaves: python two_processes.py
FOLDER, with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STATES = {"sum": 0.0, "mean": 0.0, "max": -1.0, "min": 99.0}


def start(
    command: Sequence[str | Path],
    *,
    apart: Path | None = None,
    second: Sequence[str | Path] = (),
    **environment: str,
) -> list[subprocess.Popen[str]]:
    """Start a command twice, as torchrun would on one machine; or on two.

    Args:
        command: for Python.
        apart: of two machines that share no disk: a folder, below which each has one of its own to work, keep runs and
            cache in.
        second: words that the second process has besides.
        environment: variables for both.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    common |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "none"}
    started: list[subprocess.Popen[str]] = []
    for rank in range(2):
        place, own = ROOT, {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        if apart:
            place = apart / f"machine-{rank}"
            place.mkdir(exist_ok=True)
            own |= {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "GROUP_RANK": str(rank)}
            own |= {"LEYDEN_RUNS": "runs", "LEYDEN_CACHE": "cache"}
        started.append(
            subprocess.Popen(
                [sys.executable, *map(str, command), *(map(str, second) if rank else ())],
                cwd=place,
                env=os.environ | common | own | environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return started


def metric() -> Any:
    """Return a metric with a state of each reduction that a checkpoint can hold."""
    import torch
    from torchmetrics import Metric

    class Everything(Metric):
        cat: Any

        def __init__(self) -> None:
            super().__init__()
            for name, default in STATES.items():
                self.add_state(name, torch.tensor(default), dist_reduce_fx=name)
            self.add_state("cat", [], dist_reduce_fx="cat")

        def update(self, value: Any) -> None:
            self.sum += value
            self.mean += value
            self.max = torch.maximum(self.max, value)
            self.min = torch.minimum(self.min, value)
            self.cat.append(value[None])

        def compute(self) -> Any:
            parts = self.cat if isinstance(self.cat, list) else [self.cat]  # a tensor while it is joined
            return torch.cat([torch.stack([getattr(self, name) for name in STATES]), torch.cat(parts).sort().values])

    return Everything()


def scores(rank: int) -> tuple[Any, Any]:
    """Return probabilities of three classes, and the classes: many of the first process and few of the second."""
    import torch

    generator, count = torch.Generator().manual_seed(rank), (3000, 200)[rank]
    target = torch.randint(3, (count,), generator=generator)
    logits = torch.randn(count, 3, generator=generator) + torch.nn.functional.one_hot(target, 3)
    return logits.softmax(1), target


def main(folder: Path) -> None:
    import numpy as np
    import torch
    from torch import distributed
    from torchmetrics import MetricCollection

    from src.callbacks.evaluation import gather
    from src.configs.spec import DataSpec
    from src.tasks.epoch_so_far import hand_out, joined
    from src.tasks.objectives import SingleLabel, ranking
    from src.tasks.objectives.present import MeanAUROC

    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    values = torch.tensor([[1.0, 2.0], [5.0, 7.0]])  # [process, batch]
    later = torch.tensor([3.0, 4.0])
    alone, resumed = MetricCollection({"all": metric()}), MetricCollection({"all": metric()})
    for value in values[rank]:
        alone.update(value)
    states = joined(alone)
    hand_out(states, resumed, first=rank == 0)
    for metrics in (alone, resumed):
        metrics.update(later[rank])
    rows = [{"index": torch.tensor([2 * i + rank]), "prob": torch.tensor([[float(i), rank]])} for i in range(3 - rank)]
    ranking.MOST_KEPT = 1000
    auroc = MeanAUROC(3)
    for prob, target in zip(*(part.split(100) for part in scores(rank)), strict=True):
        auroc.update(prob, target)
    objective = SingleLabel(DataSpec(classes=("a", "b"), class_counts=(1, 1)))
    prob, target = np.array([[0.9, 0.1], [0.8, 0.2]], np.float32), np.array([0, 1])
    found = {
        "scored": torch.tensor(rank == 0 and objective.score({"prob": prob}, target)["acc"]),
        "merged": torch.tensor(auroc.merged),
        "auroc": auroc.compute(),
        "states": states["all"],
        "alone": alone.compute()["all"],
        "resumed": resumed.compute()["all"],
        "gathered": {name: torch.from_numpy(value) for name, value in gather(rows, 2).items()},
        "nothing": gather([], 2),
    }
    torch.save(found, folder / f"{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
