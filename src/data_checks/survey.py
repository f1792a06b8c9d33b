"""All checks of one experiment's data: which apply, in which order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from src.data_checks import images, labels, marks, tables, texts, words
from src.data_checks.findings import Examples, Finding, Report, across_splits
from src.datamodules import DataModule, ImageFiles, Table
from src.datamodules.capabilities import FitsBaselines, ShowsExamples
from src.datamodules.tables.numbering import numbering
from src.experiment import Experiment
from src.tasks import Task
from src.training.baselines import estimators
from src.training.features import cache_features
from src.training.trainer import build_trainer

LOPSIDED = 10
"""Times as many examples of the commonest class as of the rarest, from which on accuracy says little."""
FEW = {"train": 20, "val": 10, "test": 10}
"""Examples of a class below which it can hardly be learned, or measured."""
TINY = 32
"""Side of images below which different ones are alike by nature, so that only equal ones count."""


def check(experiment: Experiment, datamodule: DataModule, task: Task) -> Report:
    """Check the data of an experiment; nothing is written but caches.

    Args:
        datamodule, task: as the runner builds them.
    """
    report, examples = Report(), Examples.of(datamodule)
    report.add("examples of each class", balance(examples))
    if isinstance(datamodule, Table):
        _table(report, examples, datamodule)
        return report
    if not isinstance(datamodule, ShowsExamples):
        report.add("nothing else: these data show no examples", [])
        return report
    if isinstance(datamodule.examples("train", [0]), torch.Tensor):
        _images(report, examples, datamodule, experiment, task, tiny=side(datamodule) <= TINY)
    else:
        _texts(report, examples, datamodule)
    return report


def side(datamodule: DataModule) -> int:
    """Return the side of images in their files, where all are tiny; else that of what the model sees."""
    if isinstance(datamodule, ImageFiles):
        return TINY + 1  # files of any size
    return int(datamodule.spec.input_shape[-1])


def balance(examples: Examples) -> list[Finding]:
    """Return classes or labels with few examples, and splits in which one class is far commoner than another."""
    found: list[Finding] = []
    for split in () if examples.kind == "regression" else examples.splits:
        target, single = examples.target[examples.of_split(split)], examples.kind == "single_label"
        counts = np.bincount(target, minlength=len(examples.classes)) if single else target.sum(0).astype(int)
        least, most = int(counts.argmin()), int(counts.argmax())
        if single and counts[most] >= LOPSIDED * counts[least]:
            found.append(
                Finding(
                    f"{split} is lopsided: {examples.classes[most]} {counts[most]}, {examples.classes[least]} "
                    f"{counts[least]}; look at balanced_acc, not acc"
                )
            )
        if few := [k for k in counts.argsort(kind="stable") if counts[k] < FEW[split]]:
            what = "classes" if single else "labels"
            title = f"{what} with fewer than {FEW[split]} examples in {split}: {len(few)} of {len(counts)}"
            found.append(Finding(title, examples=tuple(f"{examples.classes[k]} {counts[k]}" for k in few)))
    return found


def _images(
    report: Report, examples: Examples, datamodule: DataModule, experiment: Experiment, task: Task, *, tiny: bool
) -> None:
    small = [images.thumbnails(datamodule, split) for split in examples.splits]
    grey, coloured = map(np.concatenate, zip(*small, strict=True))
    what = "pixels" if tiny else "perceptual hashes, then small grey pixels; mirrored ones too"
    pairs = images.repeated(examples, grey, exact=tiny)
    report.add(f"images in two splits: {what}", across_splits(examples, pairs, "images"))
    if isinstance(datamodule, ImageFiles):
        report.add("sizes of images and files", images.odd_sizes(datamodule, examples))
    if examples.kind != "regression":
        where = "colours" if tiny else "colours, and places near the border,"
        report.add(f"{where} that alone give a class away", marks.telling(examples, coloured, places=not tiny))
    if task.cached_features == "no":
        add_wrong_targets(report, examples, _baseline(datamodule, examples))
        return
    trainer = build_trainer(experiment, [], logger=False)
    kept = cache_features(task, datamodule, trainer, examples.splits)
    features = np.concatenate([kept[split]["features"].flatten(1).numpy() for split in examples.splits])
    evidence = labels.Evidence(f"logistic regression on features of the backbone ({task.weights_source})", features)
    add_wrong_targets(report, examples, evidence)


def _texts(report: Report, examples: Examples, datamodule: DataModule) -> None:
    evidence = _baseline(datamodule, examples)
    in_words = texts.in_words(evidence.inputs)
    pairs = texts.repeated(examples, in_words)
    report.add(
        f"texts in two splits: shingles of {texts.SHINGLE} words, then word by word",
        across_splits(examples, pairs, "texts"),
    )
    report.add("lengths of texts, texts without words", texts.odd_texts(examples, evidence.inputs, in_words))
    if examples.kind != "regression":
        report.add("words that alone give a class away", words.telling(examples, in_words))
    add_wrong_targets(report, examples, evidence)


def _table(report: Report, examples: Examples, datamodule: Table) -> None:
    evidence = _baseline(datamodule, examples)
    frame: pd.DataFrame = evidence.inputs
    train = examples.of_split("train")
    seen = [name for name in frame.columns if name in datamodule.table.column_names]
    compared = frame.drop(columns=numbering(frame, np.asarray(train), seen))
    same, nearly = tables.repeated(examples, compared)
    share = tables.coarse(examples, compared)
    if share <= tables.COARSE and len(train) >= tables.FEW_ROWS:
        report.add("rows in two splits", [*across_splits(examples, same, "rows"), *alike(examples, nearly)])
    else:
        why = f"{share:.0%} of the training rows are like another" if share > tables.COARSE else f"{len(train)} rows"
        report.add(f"rows in two splits: not checked, these are alike by chance ({why})", [])
    report.add("columns that number the rows or hardly change", tables.odd_columns(frame.iloc[train], seen))
    report.add(f"columns that give the target away, one by one: {frame.shape[1]}", _leaks(examples, frame))
    add_wrong_targets(report, examples, evidence)


def _leaks(examples: Examples, frame: pd.DataFrame) -> list[Finding]:
    train, target = examples.of_split("train"), examples.target
    if examples.kind != "multi_label":
        return tables.leaking(frame.iloc[train], target[train], regression=examples.kind == "regression")
    return [
        finding
        for number in examples.commonest_labels()
        for finding in tables.leaking(
            frame.iloc[train],
            target[train, number].astype(np.int64),
            regression=False,
            what=f"label {examples.classes[number]}",
        )
    ]


def add_wrong_targets(report: Report, examples: Examples, evidence: labels.Evidence) -> None:
    for said, findings in labels.wrong_targets(examples, evidence):
        report.add(said, findings)


def alike(examples: Examples, nearly: list[Any]) -> list[Finding]:
    """Return the finding that rows differ in one column from one of an earlier split."""
    if not nearly:
        return []
    shown = [f"{examples.name(pair.late)} = {examples.name(pair.early)} in {pair.how}" for pair in nearly]
    title = f"rows of val and test that differ from one of an earlier split in a single column: {len(shown)}"
    return [Finding(title, examples=tuple(shown))]


def _baseline(datamodule: DataModule, examples: Examples) -> labels.Evidence:
    """Return what scikit-learn's best baseline sees of all splits."""
    assert isinstance(datamodule, FitsBaselines)
    parts: list[Any] = [datamodule.baseline_inputs(split) for split in examples.splits]
    if isinstance(parts[0], pd.DataFrame):
        inputs: Any = pd.concat(parts, ignore_index=True)
    elif isinstance(parts[0], np.ndarray):
        inputs = np.concatenate(parts)
    else:
        inputs = [text for part in parts for text in part]
    name = list(estimators(inputs, examples.kind))[-1]
    return labels.Evidence(name, inputs)
