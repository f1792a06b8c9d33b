"""What evaluating the best checkpoint leaves behind: predictions, per-class figures, and pictures of them."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from torch import Tensor

from src.datamodules import DataModule
from src.loggers import TensorBoard
from src.records import write_whole

MOST_MISTAKES = 16
MOST_LETTERS = 1000
MOST_NAMES = 50
"""Classes up to which a confusion matrix is labelled, and kept in the record."""


class Evaluation(Callback):
    """Collects the outputs of `Trainer.validate` and `Trainer.test` (not of the validations while training) and writes
    `predictions_<split>.csv`, a confusion matrix and the worst mistakes.

    Args:
        run: the run directory.
        datamodule: the data that is evaluated; names the examples and shows them.
        board: where the pictures go.
    """

    def __init__(self, run: Path, datamodule: DataModule, board: TensorBoard) -> None:
        self.run, self.datamodule, self.board = run, datamodule, board
        self.rows: list[dict[str, Tensor]] = []

    def _collect(self, outputs: Any) -> None:
        self.rows.append({name: outputs[name].cpu() for name in ("index", "target", "prob")})

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
        if not trainer.is_global_zero:
            return
        classes = self.datamodule.spec.classes
        index, target, prob = columns["index"].tolist(), columns["target"].numpy(), columns["prob"].numpy()
        names: Sequence[str] = self.datamodule.ids(split)
        ids = [str(names[i]) for i in index]
        write_whole(
            self.run / f"predictions_{split}.csv",
            predictions_csv(ids, prob, classes, target=target),
        )
        label = prob.argmax(1)
        board = self.board.experiment
        board.add_figure(
            f"{split}/confusion", draw_confusion(confusion_matrix(target, label, labels=range(len(classes))), classes)
        )
        wrong = np.flatnonzero(label != target)
        worst = wrong[np.argsort(prob[wrong, target[wrong]])][:MOST_MISTAKES]
        if len(worst):
            shown = self.datamodule.examples(split, [index[i] for i in worst])
            titles = [f"{classes[target[i]]}, not {classes[label[i]]} {prob[i].max():.2f}" for i in worst]
            if isinstance(shown, Tensor):
                board.add_figure(f"{split}/worst", draw_pictures(shown, titles))
            else:
                board.add_text(f"{split}/worst", write_texts(shown, titles))


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
    prob: np.ndarray,
    classes: Sequence[str],
    *,
    target: np.ndarray | None = None,
    errors: Sequence[str] | None = None,
) -> str:
    """Return the CSV `id[,target],label,prob_<class>...[,error]`; a row with an error has no label or probabilities."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    middle = ["target"] if target is not None else []
    writer.writerow(
        ["id", *middle, "label", *(f"prob_{name}" for name in classes), *(["error"] if errors is not None else [])]
    )
    for i, name in enumerate(ids):
        row = [name, *([classes[target[i]]] if target is not None else [])]
        if errors is not None and errors[i]:
            row += [""] * (1 + len(classes))
        else:
            row += [classes[int(prob[i].argmax())], *(f"{p:.6f}" for p in prob[i])]
        writer.writerow([*row, *([errors[i]] if errors is not None else [])])
    return file.getvalue()


def figures(target: np.ndarray, label: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """Return precision, recall, f1 and support of each class and, where it is of a readable size, the confusion matrix
    with rows of true classes."""
    labels = list(range(len(classes)))
    columns = precision_recall_fscore_support(target, label, labels=labels, zero_division=0.0)  # pyright: ignore[reportArgumentType]
    names = ("precision", "recall", "f1", "support")
    by_class = {
        c: {n: round(float(np.asarray(column)[i]), 6) for n, column in zip(names, columns, strict=True)}
        for i, c in enumerate(classes)
    }
    if len(classes) > MOST_NAMES:
        return {"classes": by_class}
    return {"classes": by_class, "confusion": confusion_matrix(target, label, labels=labels).tolist()}


def draw_confusion(counts: np.ndarray, classes: Sequence[str]) -> Figure:
    """Draw counts, shaded by the share of the true class."""
    side = min(2.5 + 0.45 * len(classes), 20)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts / counts.sum(1, keepdims=True).clip(1), cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= MOST_NAMES:
        axes.set_xticks(range(len(classes)), classes, rotation=90 if len(classes) > 5 else 0)
        axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted", ylabel="true")
    if len(classes) <= 30:
        for row, column in np.ndindex(counts.shape):
            dark = counts[row, column] > counts[row].sum() / 2
            axes.text(
                column, row, str(counts[row, column]), ha="center", va="center", color="white" if dark else "black"
            )
    return figure


def write_texts(texts: Sequence[str], titles: Sequence[str]) -> str:
    """Return Markdown: each text, its middle left out where it is long, below its title."""
    shown = (
        text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS // 2]} ... {text[-MOST_LETTERS // 2 :]}"
        for text in texts
    )
    return "\n\n".join(f"**{title}**\n\n{html.escape(text)}" for title, text in zip(titles, shown, strict=True))


def draw_pictures(pictures: Tensor, titles: Sequence[str]) -> Figure:
    """Draw uint8 pictures [count, channels, height, width] in rows of four, each with its title."""
    rows = -(-len(titles) // 4)
    figure = Figure(figsize=(9, 2.6 * rows), layout="constrained")
    for axes in figure.subplots(rows, 4, squeeze=False).flat:
        axes.set_axis_off()
    for axes, picture, title in zip(figure.axes, pictures, titles, strict=False):
        axes.imshow(picture.permute(1, 2, 0).numpy().squeeze(), cmap="gray")
        axes.set_title(title, fontsize=9)
    return figure
