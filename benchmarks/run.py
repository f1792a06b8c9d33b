"""All jobs, each in a process of its own, and `benchmarks/results.md`: `make bench`, `make bench-full`.

    python benchmarks/run.py            # the speeds, under 40 minutes on 2 cores
    python benchmarks/run.py --full     # the scores and the times to a score, once
    python benchmarks/run.py mlp lstm   # jobs by name: the others' results stay as they are

A job that fails or takes too long is a row that says so, and the others go on. Results are written after each job.
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
    def heading(self) -> str:
        return f"### `{' '.join(('python', *self.words))}`"


CLOSE = ("--rounds", "9")
"""For races that a few hundredths decide; the machine's own noise is more in five rounds."""

SPEEDS = [
    Job(("benchmarks/images.py", "resnet18", *CLOSE), 14),
    Job(("benchmarks/images.py", "resnet50"), 5),
    Job(("benchmarks/images.py", "probe"), 6),
    Job(("benchmarks/images.py", "loader"), 4),
    Job(("benchmarks/digits.py", "cnn"), 3),
    Job(("benchmarks/texts.py", "lstm", *CLOSE), 8),
    Job(("benchmarks/texts.py", "bert", *CLOSE), 14),
    Job(("benchmarks/tables.py", "mlp"), 3),
    Job(("benchmarks/startup.py", "startup"), 5),
    Job(("benchmarks/checkpoints.py", "save"), 2),
    Job(("benchmarks/prediction.py", "pictures"), 3),
    Job(("benchmarks/exports.py", "speed", *CLOSE), 10),
    Job(("benchmarks/serving.py", "rows"), 5),
    Job(("benchmarks/serving.py", "pictures"), 5),
    Job(("benchmarks/explaining.py", "explanations"), 6),
    Job(("benchmarks/searching.py", "overhead"), 6),
    Job(("benchmarks/searching.py", "workers", "--rounds", "3"), 20),
    Job(("benchmarks/ceiling.py", "resnet18"), 3),
    Job(("benchmarks/ceiling.py", "minilm"), 4),
]
FOR_AUTO = (
    *("breast_cancer", "sacramento", "attrition", "ames", "credit", "diamonds"),  # tables
    *("imdb_reviews", "rotten_tomatoes"),  # texts
    *("digits", "animals"),  # images
)
FULL = [
    Job(("benchmarks/images.py", "resnet18", "--score"), 60),
    Job(("benchmarks/texts.py", "lstm", "--score"), 30),
    Job(("benchmarks/texts.py", "bert", "--score"), 60),
    *(Job(("benchmarks/defaults.py", job), 40) for job in ("bf16", "cache", "bucketing", "probe_start")),
    Job(("benchmarks/time_to_score.py", "cats_dogs"), 75),
    Job(("benchmarks/time_to_score.py", "imdb"), 75),
    Job(("benchmarks/searching.py", "pruning"), 120),
    *(Job(("benchmarks/auto.py", data, "--autogluon", "../autogluon/bin/python"), 30) for data in FOR_AUTO),
]
PARTS = {"Speeds": SPEEDS, "Scores": FULL}
"""Of the results."""


def do(job: Job) -> list[report.Row]:
    """Run a job and return its rows; one that says why where it has none."""
    name = " ".join(job.words)
    with tempfile.TemporaryDirectory() as folder:
        to = Path(folder) / "rows.json"
        process = subprocess.Popen([sys.executable, *job.words, "--json", to], cwd=ROOT, stderr=subprocess.PIPE)
        try:
            _, errors = process.communicate(timeout=60 * job.minutes)
        except subprocess.TimeoutExpired:
            process.terminate()  # it ends its contenders
            process.communicate()
            return [report.Row(name, "", note=f"not run: longer than {job.minutes:g} min")]
        if process.returncode or not to.exists():
            last = (errors.decode(errors="replace").strip().splitlines() or [f"exit code {process.returncode}"])[-1]
            return [report.Row(name, "", note=f"not run: {last}"[:300])]
        return report.read(to)


def machine() -> str:
    """Return what the figures hold for: processor, cores, memory, versions, commit."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        names = [
            line
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ]
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


INTRODUCTION = """# Speeds, side by side

Made by `make bench` and `make bench-full`; the scripts say what is compared. Contenders take turns (A B C A B
C), each in a process of its own that is stopped in the others' turns; one round of warm-up, then the medians of the
rounds. Trainings are timed by their steps within an epoch, without what comes before (features, a solved head), without
validation and checkpoints; the probe and the MLP with all of it. A ratio is the median of the rounds' ratios, with its
95 % bootstrap interval; a mark is what was asked for before it was measured.
"""


def write(path: Path, found: dict[str, str], parts: dict[str, list[Job]]) -> None:
    """Put the results of some jobs, heading -> text, into the file; those of others stay as they are."""
    old = path.read_text(encoding="utf-8").split("\n### ")[1:] if path.is_file() else []
    texts = {
        f"### {heading}": text.partition("\n## ")[0].strip() for heading, _, text in (t.partition("\n") for t in old)
    }
    texts |= found
    lines = [INTRODUCTION]
    for title, jobs in parts.items():
        there = [f"{job.heading}\n\n{texts[job.heading].strip()}\n" for job in jobs if job.heading in texts]
        lines += [f"## {title}\n", *there] if there else []
    path.write_text("\n".join(lines), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="jobs by the word after their script; else all")
    parser.add_argument("--full", action="store_true", help="the scores in place of the speeds")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the file to write")
    flags = parser.parse_args()
    jobs = PARTS["Scores" if flags.full else "Speeds"]
    known = {job.words[1] for job in jobs}
    if unknown := {*flags.names} - known:
        parser.error(f"{min(unknown)}: no such job; there are {', '.join(sorted(known))}")
    here = machine()  # before results are written, which are uncommitted then
    for job in jobs:
        if flags.names and job.words[1] not in flags.names:
            continue
        print(f"--- {' '.join(job.words)}", flush=True)
        started = time.monotonic()
        table = report.table(do(job))
        text = f"{here} {(time.monotonic() - started) / 60:.0f} minutes.\n\n{table}"
        write(flags.out, {job.heading: text}, PARTS)
    print(f"written    {flags.out}")


if __name__ == "__main__":
    main()
