"""How long a user waits for commands, start of Python included: seconds.

    python benchmarks/startup.py startup --rounds 5

From the command to the end of the first training step, beside what `import lightning` alone takes; `--help`; and the
table of 1000 runs: a small classification trained once, its directory copied, checkpoints aside, with other seeds and
batch sizes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report
from benchmarks.turns import Contender, Speeds

ROOT = Path(__file__).resolve().parents[1]
RUNS, SEEDS = 1000, 5
SOFTMAX = "experiments/digits.py:SoftmaxRegression"


def command(*words: str | Path, home: Path) -> None:
    """Run Python in the checkout, its runs in `home`."""
    environment = os.environ | {"LEYDEN_RUNS": str(home)}
    subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)


def many(home: Path) -> Path:
    """Write the runs, in groups of `SEEDS`, and return their folder."""
    command("scripts/run.py", "experiments/breast_cancer.py", "--max-epochs", "10", home=home / "one")
    [run] = home.glob("one/*/*")
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    for number in range(RUNS):
        copy = home / "many" / "BreastCancer" / f"20260101T000000Z-{number:04x}"
        shutil.copytree(run, copy, ignore=shutil.ignore_patterns("checkpoints"))
        fields = record["fields"] | {"seed": number % SEEDS, "batch_size": 1 + number // SEEDS}
        (copy / "run.json").write_text(
            json.dumps(record | {"fields": fields, "seed": number % SEEDS}, indent=1), encoding="utf-8"
        )
    return home / "many"


def main() -> None:
    flags = report.options(__doc__ or "", ["startup"])
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        commands = {
            "python scripts/run.py, to the first step of SoftmaxRegression": ["benchmarks/first_step.py", SOFTMAX],
            "python -c 'import lightning'": ["-c", "import lightning"],
            "python scripts/run.py --help": ["scripts/run.py", SOFTMAX, "--help"],
            f"python scripts/compare.py, {RUNS} runs": ["scripts/compare.py", many(home)],
        }
        found: dict[str, list[float]] = {title: [] for title in commands}
        for round_ in range(flags.rounds + 1):
            for title, words in commands.items():
                started = time.perf_counter()
                command(*words, home=home / "started")
                if round_:
                    found[title].append(time.perf_counter() - started)
        first, bare, short, listed = commands
        idle = Contender("", lambda turns: None).train
        contenders = [
            Contender(first, idle),
            Contender(bare, idle, 1, first, 1.25),
            Contender(short, idle, mark=0.5),
            Contender(listed, idle, mark=3.0),
        ]
        speeds: Speeds = {**found}
        report.show(report.rows("start-up", contenders, speeds, "s", most=True), flags.json)


if __name__ == "__main__":
    main()
