"""All jobs, each in a process of its own, and `benchmarks/results.md`: `make bench`, `make bench-full`.

    python benchmarks/run.py            # the speeds, under 40 minutes on 2 cores
    python benchmarks/run.py --full     # the scores and the times to a score, once

A job that fails or takes too long is a row that says so, and the others go on.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results.md"
VERSIONS = ("torch", "torchvision", "lightning", "timm", "transformers", "accelerate", "fastai")


@dataclass(frozen=True)
class Job:
    """A command."""

    words: tuple[str, ...]
    minutes: float
    """After which it is ended."""

    @property
    def shown(self) -> str:
        return " ".join(("python", *self.words))


CLOSE = ("--rounds", "9")
"""For races that a few hundredths decide; the machine's own noise is more in five rounds."""

SPEEDS = [
    Job(("benchmarks/images.py", "resnet18", *CLOSE), 14),
    Job(("benchmarks/images.py", "resnet50"), 5),
    Job(("benchmarks/images.py", "probe"), 6),
    Job(("benchmarks/images.py", "loader"), 4),
    Job(("benchmarks/digits.py", "cnn"), 3),
    Job(("benchmarks/texts.py", "lstm"), 5),
    Job(("benchmarks/texts.py", "bert", *CLOSE), 14),
    Job(("benchmarks/tables.py", "mlp"), 3),
    Job(("benchmarks/startup.py", "startup"), 5),
    Job(("benchmarks/checkpoints.py", "save"), 2),
    Job(("benchmarks/prediction.py", "pictures"), 3),
    Job(("benchmarks/ceiling.py", "resnet18"), 3),
    Job(("benchmarks/ceiling.py", "minilm"), 4),
]
FULL = [
    Job(("benchmarks/images.py", "resnet18", "--score"), 60),
    Job(("benchmarks/texts.py", "lstm", "--score"), 30),
    Job(("benchmarks/texts.py", "bert", "--score"), 60),
    *(Job(("benchmarks/defaults.py", job), 40) for job in ("bf16", "cache", "bucketing", "probe_start")),
    Job(("benchmarks/time_to_score.py", "cats_dogs"), 75),
    Job(("benchmarks/time_to_score.py", "imdb"), 75),
]


def do(job: Job) -> list[report.Row]:
    """Run a job and return its rows; one that says why where it has none."""
    with tempfile.TemporaryDirectory() as folder:
        to = Path(folder) / "rows.json"
        process = subprocess.Popen([sys.executable, *job.words, "--json", to], cwd=ROOT, stderr=subprocess.PIPE)
        try:
            _, errors = process.communicate(timeout=60 * job.minutes)
        except subprocess.TimeoutExpired:
            process.terminate()  # it ends its contenders
            process.communicate()
            return [report.Row(job.shown, "", note=f"not run: longer than {job.minutes:g} min")]
        if process.returncode or not to.exists():
            last = (errors.decode(errors="replace").strip().splitlines() or [f"exit code {process.returncode}"])[-1]
            return [report.Row(job.shown, "", note=f"not run: {last}"[:300])]
        return report.read(to)


def machine() -> str:
    """Return what the figures hold for: processor, cores, memory, versions, commit."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(": ")[2] if names else model
    versions = [f"Python {platform.python_version()}"]
    for name in VERSIONS:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"no {name}")
    git = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
    day = time.strftime("%Y-%m-%d", time.gmtime())
    return f"{model}, {os.cpu_count()} cores. {', '.join(versions)}. Commit {commit}. {day}."


def part(title: str, jobs: Sequence[Job]) -> str:
    """Run jobs one after the other and return their part of the results."""
    started, texts = time.monotonic(), list[str]()
    for job in jobs:
        print(f"--- {job.shown}", flush=True)
        texts.append(f"`{job.shown}`\n\n{report.table(do(job))}")
    minutes = (time.monotonic() - started) / 60
    return "\n".join([f"## {title}\n", f"{machine()} {minutes:.0f} minutes.\n", *texts])


INTRODUCTION = """# Speeds, side by side

Made by `make bench` and `make bench-full`; the scripts say what is compared. Contenders take turns (A B C A B
C), each in a process of its own that is stopped in the others' turns; one round of warm-up, then the medians of the
rounds. Trainings are timed by their steps within an epoch, without what comes before (features, a solved head), without
validation and checkpoints; the probe and the MLP with all of it. A ratio is the median of the rounds' ratios, with its
95 % bootstrap interval; a mark is what was asked for before it was measured.
"""


def write(path: Path, title: str, text: str) -> None:
    """Put a part into the results; the other parts stay as they are."""
    parts = {}
    if path.is_file():
        for found in path.read_text().split("\n## ")[1:]:
            parts[found.partition("\n")[0]] = f"## {found.strip()}\n"
    parts[title] = text.strip() + "\n"
    path.write_text("\n".join([INTRODUCTION, *(parts[name] for name in sorted(parts, reverse=True))]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the scores in place of the speeds")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the file to write")
    flags = parser.parse_args()
    title, jobs = ("Scores", FULL) if flags.full else ("Speeds", SPEEDS)
    write(flags.out, title, part(title, jobs))
    print(f"written    {flags.out}")


if __name__ == "__main__":
    main()
