"""What evaluating the best checkpoint leaves behind: predictions, per-class figures, and pictures of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from torch import Tensor

from src.callbacks.drawings import (
    MOST_NAMES,
    draw_confusion,
    draw_pictures,
    draw_regression,
    draw_reliability,
    write_texts,
)
from src.datamodules import DataModule
from src.resources.files import atomic_write
from src.runs import records
from src.runs.tensorboard import TensorBoard
from src.tasks.objectives import calibration

MOST_MISTAKES = 16


class Evaluation(Callback):
    """Collects the outputs of `Trainer.validate` and `Trainer.test` (not of the validations while training) and writes
    `predictions_<split>.csv`, a confusion matrix, or a plot of predictions and residuals, and the worst mistakes. A
    validation of classes also leaves temperature and threshold in the record, and reliability diagrams of either split.

    The CSV has the network's own probabilities, from which the metrics can be computed again: `predict.py` is what
    applies the temperature.

    Args:
        run: the run directory.
        datamodule: the data that is evaluated; names the examples and shows them.
        board: where the pictures go.
    """

    def __init__(self, run: Path, datamodule: DataModule, board: TensorBoard) -> None:
        self.run, self.datamodule, self.board = run, datamodule, board
        self.rows: list[dict[str, Tensor]] = []

    def _collect(self, outputs: Any) -> None:
        self.rows.append({name: value.cpu() for name, value in outputs.items() if name != "loss"})

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if trainer.validating:
            self._collect(outputs)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._collect(outputs)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.validating:
            self._write(trainer, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, "test")

    def _write(self, trainer: Trainer, split: str) -> None:
        columns = gather(self.rows, trainer.world_size)
        self.rows = []
        if trainer.is_global_zero:
            self.leave(split, columns)

    def leave(self, split: str, columns: dict[str, Tensor]) -> None:
        """Write and draw what a split's predictions are.

        Args:
            split: 'val' or 'test'.
            columns: 'index' and 'target' [examples], and what the task's step returns besides.
        """
        index, target = columns.pop("index").tolist(), columns.pop("target").numpy()
        found = {name: column.numpy() for name, column in columns.items()}
        classes, names = self.datamodule.spec.classes, self.datamodule.ids(split)
        shown_target = [classes[i] for i in target] if classes else target.tolist()
        csv_text = predictions_csv([str(names[i]) for i in index], found, classes, target=shown_target)
        atomic_write(self.run / f"predictions_{split}.csv", csv_text)
        if classes:
            self._calibrate(split, target, found["prob"])
            worst, titles = self._classes(split, target, found["prob"])
        else:
            worst, titles = self._numbers(split, target, found)
        if len(worst):
            shown = self.datamodule.examples(split, [index[i] for i in worst])
            if isinstance(shown, Tensor):
                self.board.experiment.add_figure(f"{split}/worst", draw_pictures(shown, titles))
            else:
                self.board.experiment.add_text(f"{split}/worst", write_texts(shown, titles))

    def _calibrate(self, split: str, target: np.ndarray, prob: np.ndarray) -> None:
        """Choose temperature and threshold on val, see what they give on test; keep both in the record, and draw."""
        if split == "val":
            before = records.load(self.run).get("calibration", {})
            kept = calibration.calibrate(prob, target) | ({"test": before["test"]} if "test" in before else {})
        else:
            kept = records.load(self.run)["calibration"]
            kept["test"] = calibration.judge(prob, target, kept)
        records.update(self.run, calibration=kept)
        after = calibration.with_temperature(prob, kept["temperature"])
        figure = draw_reliability(prob, after, target, kept["temperature"])
        self.board.experiment.add_figure(f"{split}/reliability", figure)

    def _classes(self, split: str, target: np.ndarray, prob: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """Draw the confusion matrix; return the positions of the worst mistakes, and a title for each."""
        classes, label = self.datamodule.spec.classes, prob.argmax(1)
        counts = confusion_matrix(target, label, labels=range(len(classes)))
        self.board.experiment.add_figure(f"{split}/confusion", draw_confusion(counts, classes))
        wrong = np.flatnonzero(label != target)
        worst = wrong[np.argsort(prob[wrong, target[wrong]])][:MOST_MISTAKES]
        return worst, [f"{classes[target[i]]}, not {classes[label[i]]} {prob[i].max():.2f}" for i in worst]

    def _numbers(self, split: str, target: np.ndarray, found: dict[str, np.ndarray]) -> tuple[np.ndarray, list[str]]:
        """Draw predictions and residuals; return the positions of the worst mistakes, and a title for each."""
        prediction, name = found["prediction"], self.datamodule.spec.target.name
        ends = np.stack([found["lower"], found["upper"]]) if "lower" in found else None
        self.board.experiment.add_figure(f"{split}/predictions", draw_regression(target, prediction, name, ends))
        worst = np.argsort(-np.abs(target - prediction))[:MOST_MISTAKES]
        return worst, [f"{name} {target[i]:g}, predicted {prediction[i]:g}" for i in worst]


def gather(rows: Sequence[dict[str, Tensor]], world_size: int) -> dict[str, Tensor]:
    """Join the batches of all devices, in the order of 'index'."""
    parts = [{name: torch.cat([row[name] for row in rows]) for name in rows[0]}] if rows else []
    if world_size > 1:
        everyone: list[Any] = [None] * world_size
        torch.distributed.all_gather_object(everyone, parts)
        parts = [part for shard in everyone for part in shard]
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    order = joined["index"].argsort()
    return {name: column[order] for name, column in joined.items()}


def predictions_csv(
    ids: Sequence[str],
    found: Mapping[str, np.ndarray],
    classes: Sequence[str],
    *,
    target: Sequence[Any] | None = None,
    errors: Sequence[str] | None = None,
    label: np.ndarray | None = None,
) -> str:
    """Return the CSV `id[,target],label,prob_<class>...[,error]`, or `id[,target],prediction[,lower,upper][,error]`
    where there are no classes. A row with an error has nothing else.

    Args:
        ids: of the examples.
        found: 'prob' [examples, classes]; or 'prediction', and maybe 'lower' and 'upper', [examples].
        classes: their names.
        target: the true classes or numbers.
        errors: why an example has no prediction, '' where it has one.
        label: the predicted classes, where they are not the likeliest.
    """
    ids = [name.replace("\r", "\\r") for name in ids]  # csv does not quote it, and reads the end of a line
    columns: dict[str, list[Any]] = {"id": ids} | ({"target": list(target)} if target is not None else {})
    if classes:
        columns["label"] = [classes[i] for i in (found["prob"].argmax(1) if label is None else label)]
        # with all digits of a float32: an ensemble's temperature is fitted to what stands here
        columns |= {f"prob_{name}": [f"{p:.9g}" for p in found["prob"][:, i]] for i, name in enumerate(classes)}
    else:
        columns |= {name: found[name].tolist() for name in ("prediction", "lower", "upper") if name in found}
    if errors is not None:
        for name in columns.keys() - {"id", "target"}:
            columns[name] = ["" if why else value for value, why in zip(columns[name], errors, strict=True)]
        columns["error"] = list(errors)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return file.getvalue()


def figures(target: np.ndarray, label: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """Return precision, recall, f1 and support of each class and, where it is of a readable size, the confusion matrix
    with rows of true classes."""
    labels = list(range(len(classes)))
    # classification_report has no plainer a result and loses a class named "accuracy"; 23 ms for 17 (25 000 examples)
    columns = precision_recall_fscore_support(target, label, labels=labels, zero_division=0.0)  # pyright: ignore[reportArgumentType]
    names = ("precision", "recall", "f1", "support")
    by_class = {
        c: {n: round(float(np.asarray(column)[i]), 6) for n, column in zip(names, columns, strict=True)}
        for i, c in enumerate(classes)
    }
    if len(classes) > MOST_NAMES:
        return {"classes": by_class}
    return {"classes": by_class, "confusion": confusion_matrix(target, label, labels=labels).tolist()}
