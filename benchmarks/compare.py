"""How long a user waits for `scripts/compare.py` over many runs: the whole command, start of Python included.

    python benchmarks/compare.py --runs 1000 --rounds 5

Trains a small classification once and copies its run directory, checkpoints aside, with other seeds and batch sizes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def many(home: Path, count: int, seeds: int) -> None:
    """Write `count` runs in groups of `seeds`."""
    command = [sys.executable, ROOT / "scripts/run.py", "experiments/breast_cancer.py", "--max-epochs", "10"]
    environment = os.environ | {"LEYDEN_RUNS": str(home / "one")}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    [run] = home.glob("one/*/*")
    record = json.loads((run / "run.json").read_text())
    for number in range(count):
        copy = home / "runs" / "BreastCancer" / f"20260101T000000Z-{number:04x}"
        shutil.copytree(run, copy, ignore=shutil.ignore_patterns("checkpoints"))
        fields = record["fields"] | {"seed": number % seeds, "batch_size": 1 + number // seeds}
        (copy / "run.json").write_text(json.dumps(record | {"fields": fields, "seed": number % seeds}, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        many(home, flags.runs, flags.seeds)
        for extra in ([], ["--csv", home / "a.csv", "--json", home / "a.json"], ["--html", home / "a.html"]):
            seconds: list[float] = []
            for _ in range(flags.rounds):
                start = time.perf_counter()
                command = [sys.executable, ROOT / "scripts/compare.py", home / "runs", *extra]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                seconds.append(time.perf_counter() - start)
            what = " ".join(str(word) for word in extra if str(word).startswith("--")) or "table"
            middle, ends = statistics.median(seconds), f"({min(seconds):.2f}-{max(seconds):.2f})"
            print(f"{flags.runs} runs, {what:<12} {middle:.2f} s {ends}")


if __name__ == "__main__":
    main()
