"""How the L2 strength of a solved head is chosen: several rules on the features of several data sets.

    python benchmarks/head_strength.py --draws 10
    python benchmarks/head_strength.py photographs clothes --cats-dogs data/cats_dogs --fashion data/fashion-mnist

The rows of a data set are drawn anew into training, validation and test rows, `--draws` times. `least on val` is what
was done before: the least cross-entropy on the validation rows. The other rules see five folds of the training rows:
the least mean, the strongest within one standard error of that mean (`se`), or within one standard error of the
examples' differences to the best (`paired`); of cross-entropy, Brier score or the share of errors. `Brier, se` is what
`Head.solve` does. A score is the accuracy on the test rows or, of several labels, the mean average precision.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
from scipy.special import expit, log_softmax, softmax
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.metrics import average_precision_score
from threadpoolctl import threadpool_limits

from experiments.cats_dogs_finetune import CatsDogsProbe
from experiments.images import Images, ImagesMultiLabel
from experiments.rotten_tomatoes_bert import RottenTomatoesBert
from src.datamodules.images.idx_files import read_sheet
from src.datamodules.split_names import SPLITS
from src.experiment import Experiment
from src.models.regressions import deal, held_out, label_fits, logistic_fits, strongest_alike
from src.training.build import build_parts
from src.training.features import cache_features
from src.training.trainer import build_trainer, quieten

Rows = tuple[np.ndarray, np.ndarray]
"""Features [rows, num_features]; classes [rows], or whether a row has a label [rows, labels]."""
Errors = Mapping[float, np.ndarray]
"""Strength -> error of each held-out row."""
NAMES = ("photographs", "drawn", "digits", "clothes", "sentences", "sheets", "cancer", "pixels")
SIZES = (100, 300, 10**9)
"""Training rows; the last: 60 %."""
OLD, OURS = "least on val", "Brier, se"


class Probe(Images):
    """All of the backbone is frozen."""

    cached_features = "probe"


class Sheets(ImagesMultiLabel):
    """The same for several labels."""

    cached_features = "probe"


class Sentences(RottenTomatoesBert):
    """The frozen encoder of sentences."""

    cached_features = "probe"
    encoder = "sentence-transformers/all-MiniLM-L6-v2"
    frozen = -1


def features(asked: Experiment) -> Rows:
    """Return what the frozen network makes of all rows of an experiment's splits."""
    experiment = asked.resolve()
    datamodule, task = build_parts(experiment)
    datamodule.setup("test")
    found = cache_features(task, datamodule, build_trainer(experiment, [], logger=False), SPLITS)
    x, y = (np.concatenate([part[name].numpy() for part in found.values()]) for name in ("features", "target"))
    return x, y > 0.5 if y.ndim == 2 else y


def as_files(folder: Path, images: np.ndarray, targets: np.ndarray) -> Path:
    """Write grey images into class folders."""
    for i, (image, target) in enumerate(zip(images, targets, strict=True)):
        (folder / str(target)).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / str(target) / f"{i:05d}.png"), image)
    return folder


def load(name: str, folder: Path, flags: argparse.Namespace) -> Rows:
    match name:
        case "photographs":
            return features(CatsDogsProbe(data_dir=flags.cats_dogs))
        case "drawn":
            return features(CatsDogsProbe(source="drawn"))
        case "digits":
            digits: Any = load_digits()
            images = as_files(folder / name, (digits.images * 15).astype(np.uint8), digits.target)
            return features(Probe(data_dir=images, image_size=64))
        case "clothes":
            sheet = read_sheet(flags.fashion, "t10k", tuple("0123456789")).subset(range(3000))
            images = as_files(folder / name, sheet.images.numpy(), sheet.targets.numpy())
            return features(Probe(data_dir=images, image_size=64))
        case "sentences":
            return features(Sentences())
        case "sheets":
            return features(Sheets(image_size=96))
        case "cancer":
            data: Any = load_breast_cancer()
            return data.data, data.target
        case _:
            data = load_digits()
            return data.data, data.target


def brier(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    if y.ndim == 2:
        return np.square(expit(logits) - y).mean(1)
    return np.square(softmax(logits, axis=1) - np.eye(logits.shape[1])[y]).sum(1)


def cross_entropy(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    if y.ndim == 2:
        return np.logaddexp(0, np.where(y, -logits, logits)).mean(1)
    return -log_softmax(logits, axis=1)[np.arange(len(y)), y]


def wrong(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    return ((logits > 0) != y).mean(1) if y.ndim == 2 else (logits.argmax(1) != y).astype(float)


def score(logits: np.ndarray, y: np.ndarray) -> float:
    if y.ndim == 2:
        return float(np.mean([average_precision_score(y[:, i], logits[:, i]) for i in np.flatnonzero(y.any(0))]))
    return float(1 - wrong(logits, y).mean())


def least(errors: Errors) -> float:
    return min(errors, key=lambda l2: float(errors[l2].mean()))


def paired(errors: Errors) -> float:
    """Return the strongest whose differences to the best have a mean within its own standard error."""
    rows, best = len(next(iter(errors.values()))), errors[least(errors)]
    within = [l2 for l2, e in errors.items() if (e - best).mean() <= (e - best).std(ddof=1) / np.sqrt(rows)]
    return max(within)


def draws(data: Rows, size: int, count: int) -> Iterator[tuple[Rows, Rows, Rows]]:
    """Yield training rows, a sixth as many for validation, and the rest, standardised by the first."""
    x, y = data
    size = min(size, round(0.6 * len(x)))
    for seed in range(count):
        order = np.random.default_rng(seed).permutation(len(x))
        train, val, test = np.split(order, [size, size + max(10, size // 6)])
        mean, std = x[train].mean(0), np.maximum(x[train].std(0, ddof=1), 1e-6)
        standard = ((x - mean) / std).astype(np.float32)
        yield (standard[train], y[train]), (standard[val], y[val]), (standard[test], y[test])


def chosen_by(train: Rows, val: Rows, test: Rows) -> dict[str, tuple[float, float, float]]:
    """Return for each rule the strength, and score and mean cross-entropy on the test rows."""
    x, y = train
    classes = int(max(y.max(), val[1].max(), test[1].max())) + 1
    fits = label_fits if y.ndim == 2 else functools.partial(logistic_fits, class_weights=np.ones(classes, np.float32))
    held, logits = held_out(fits, x, y, deal(y.reshape(len(y), -1)))
    heads = {l2: (weight, bias) for l2, weight, bias in fits(x, y)}

    def outputs(l2: float, rows: Rows) -> np.ndarray:
        weight, bias = heads[l2]
        return rows[0] @ weight.T + bias

    rules = {OLD: least({l2: cross_entropy(outputs(l2, val), val[1]) for l2 in heads})}
    for title, error in (("cross-entropy", cross_entropy), ("Brier", brier), ("errors", wrong)):
        errors = {l2: error(found, y[held]) for l2, found in logits.items()}
        rules |= {f"{title}, least": least(errors), f"{title}, paired": paired(errors)}
        rules[f"{title}, se"] = strongest_alike(errors, np.ones(len(held)))
    found = {rule: (l2, outputs(l2, test)) for rule, l2 in rules.items()}
    return {
        rule: (l2, score(logits, test[1]), cross_entropy(logits, test[1]).mean())
        for rule, (l2, logits) in found.items()
    }


def table(name: str, data: Rows, count: int) -> Iterator[str]:
    for size in SIZES:
        drawn = list(draws(data, size, count))
        found = [chosen_by(*parts) for parts in drawn]
        before = [one[OLD][1] for one in found]
        for rule in found[0]:
            strengths, scores, losses = zip(*(one[rule] for one in found), strict=True)
            gains = [after - old for after, old in zip(scores, before, strict=True)]
            spread = statistics.stdev(gains) / count**0.5 if count > 1 else 0.0
            picked = ", ".join(f"{l2:g} ({times})" for l2, times in sorted(Counter(strengths).items()))
            yield (
                f"| {name} {len(drawn[0][0][0])} | {rule} | {statistics.mean(scores):.4f} | "
                f"{statistics.mean(gains):+.4f} ± {spread:.4f} | {statistics.mean(losses):.3f} | {picked} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(NAMES)}; else all that are there")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--cats-dogs", type=Path, help="folder of photographs")
    parser.add_argument("--fashion", type=Path, help="folder of Fashion-MNIST's idx files")
    flags = parser.parse_args()
    lacking = {"photographs": not flags.cats_dogs, "clothes": not flags.fashion}
    quieten()
    print("| rows for training | rule | score | to the first | cross-entropy | L2 (draws) |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in flags.names or [name for name in NAMES if not lacking.get(name)]:
            data = load(name, Path(folder), flags)
            with threadpool_limits(1):
                for line in table(name, data, flags.draws):
                    print(line, flush=True)


if __name__ == "__main__":
    main()
