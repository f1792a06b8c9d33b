"""The races of `benchmarks/run.py` on a GPU, with the same contenders: prints who is how fast, and the ratios.

    python benchmarks/gpu.py                 # all: `make bench-gpu`
    python benchmarks/gpu.py resnet18 bert

Nothing is asked of the ratios here: the marks of the scripts were set for CPUs.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks import report
from benchmarks.run import Job, do, machine

JOBS = {
    "resnet18": Job(("benchmarks/images.py", "resnet18"), 20),
    "resnet50": Job(("benchmarks/images.py", "resnet50"), 20),
    "probe": Job(("benchmarks/images.py", "probe"), 10),
    "cnn": Job(("benchmarks/digits.py", "cnn"), 5),
    "lstm": Job(("benchmarks/texts.py", "lstm"), 10),
    "bert": Job(("benchmarks/texts.py", "bert"), 20),
    "mlp": Job(("benchmarks/tables.py", "mlp"), 5),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", help=f"of {', '.join(JOBS)}; all without it")
    parser.add_argument("--rounds", type=int, default=5, help="timed turns of each, after one for warm-up")
    parser.add_argument("--on-cpu", action="store_true", help="to try the script itself where there is no GPU")
    flags = parser.parse_args()
    if unknown := [name for name in flags.jobs if name not in JOBS]:
        parser.error(f"no job {unknown[0]}: {', '.join(JOBS)}")
    if not (torch.cuda.is_available() or flags.on_cpu):
        sys.exit("benchmarks/gpu.py: torch finds no GPU here. For the CPU there is benchmarks/run.py.")
    found: list[report.Row] = []
    for name in flags.jobs or JOBS:
        job = JOBS[name]
        found += do(Job((*job.words, "--rounds", str(flags.rounds)), job.minutes))
    there = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    print(f"{there}. {machine()}\n")
    print(report.table([dataclasses.replace(row, mark=None) for row in found]))


if __name__ == "__main__":
    main()
