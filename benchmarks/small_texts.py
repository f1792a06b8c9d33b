"""A few easy texts: the default LSTM beside TF-IDF with logistic regression, on the same rows.

    python benchmarks/small_texts.py --sizes 100 800 5000 --seeds 0 1 2

Tickets of five teams, whose words tell the team: each has two of its team's six words, or one (`--words 1`), among
others that all teams use. Of so many rows 15 % are for validation; both are fitted to the rest, and tested on 1 000
others. Each seed draws its own rows. With `--as-before` the LSTM trains as it does on many rows, for 4 epochs.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from experiments.texts import TextsLstm
from src.experiment import replace
from src.runs import records, summary
from src.training import runner
from src.training.options import RunOptions
from src.training.trainer import quieten

TEST_ROWS = 1000
TEAMS = {
    "billing": "invoice charge price payment discount refund",
    "delivery": "parcel driver shipment tracking address courier",
    "login": "password account code username session lockout",
    "app": "screen update button menu search crash",
    "staff": "agent reply clerk chat phone manager",
}
OTHERS = (
    "the a my your this that it is was has been again still today yesterday please help not with for on since when "
    "hello thanks problem wrong never always twice week order number about and but very need want told see"
)
LINEAR = "TF-IDF, logistic regression"


def ticket(team: str, words: int, rng: np.random.Generator) -> str:
    """Return so many of the team's words in any places among four to eleven others."""
    own = rng.choice(TEAMS[team].split(), words, replace=False)
    return " ".join(rng.permutation([*own, *rng.choice(OTHERS.split(), rng.integers(4, 12))]))


def draw(folder: Path, rows: int, words: int, seed: int) -> Path:
    """Write so many rows as train.csv and `TEST_ROWS` others as test.csv, no text twice; return the folder."""
    rng = np.random.default_rng([seed, rows])
    texts: dict[str, str] = {}
    while len(texts) < rows + TEST_ROWS:
        team = list(TEAMS)[len(texts) % len(TEAMS)]
        texts.setdefault(ticket(team, words, rng), team)
    drawn = list(texts.items())
    folder.mkdir()
    for name, part in (("train", drawn[:rows]), ("test", drawn[rows:])):
        with open(folder / f"{name}.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *part])
    return folder


def scores(experiment: TextsLstm) -> tuple[float, float, int]:
    """Return the test accuracy of the LSTM and of the baseline, and the epochs."""
    with summary.silent():
        record = records.load(runner.run(experiment, RunOptions(test=True, baselines=True)))
    return record["metrics"]["test/acc"], record["baselines"][LINEAR]["test/acc"], record["fields"]["max_epochs"]


def cell(found: Sequence[float]) -> str:
    return f"{statistics.mean(found):.3f} ({min(found):.3f}-{max(found):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 800, 5000], help="rows to train and validate on")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--words", type=int, default=2, help="of its team in each ticket")
    parser.add_argument("--as-before", action="store_true", help="always the recipe for many rows")
    flags = parser.parse_args()
    asked = TextsLstm(max_epochs=4, few_rows=0) if flags.as_before else TextsLstm()
    quieten()
    lines = [f"| rows | epochs | `TextsLstm` | {LINEAR} |", "|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as name:
        os.environ |= {"LEYDEN_RUNS": f"{name}/runs", "LEYDEN_CACHE": f"{name}/cache"}
        for rows in flags.sizes:
            folders = {seed: draw(Path(name) / f"{rows}-{seed}", rows, flags.words, seed) for seed in flags.seeds}
            found = [scores(replace(asked, data_dir=folder, seed=seed)) for seed, folder in folders.items()]
            lstm, linear, epochs = zip(*found, strict=True)
            lines.append(f"| {rows} | {' '.join(map(str, dict.fromkeys(epochs)))} | {cell(lstm)} | {cell(linear)} |")
    print("\n".join(["", *lines]))


if __name__ == "__main__":
    main()
