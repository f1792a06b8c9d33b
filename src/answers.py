"""Predictions as a person reads them: the columns of a CSV, and how they agree with known targets. Without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from typing_extensions import override

from src.configs.labels import LABEL_SEPARATOR, is_number, split_labels
from src.configs.spec import DataSpec
from src.configs.words import respell

Predicted = Mapping[str, np.ndarray]
"""Name -> array [examples, ...], as `Objective.predictions` names them."""


class Answers:
    """What is said of predictions. A subclass is one kind of target."""

    spec: DataSpec

    def columns(
        self, predicted: Predicted, *, digits: int = 9, decided: np.ndarray | None = None
    ) -> dict[str, list[Any]]:
        """Return the columns of a CSV of predictions, without 'id' and 'target'.

        Args:
            predicted: as `predictions` names it.
            digits: significant digits of a probability. Nine tell every float32 apart.
            decided: what `decide` chose; without it the likeliest class, or every label from 0.5 on.
        """
        raise NotImplementedError

    def agreement(
        self, predicted: Predicted, decided: np.ndarray | None, expected: Sequence[str], usable: Sequence[bool]
    ) -> list[str]:
        """Return lines that compare predictions with the targets that the inputs came with.

        Args:
            expected: targets as written, '' where there is none; may be empty.
            usable: whether there is a prediction, for each input.
        """
        return []


class SingleLabelAnswers(Answers):
    """One class of each example."""

    @override
    def columns(
        self, predicted: Predicted, *, digits: int = 9, decided: np.ndarray | None = None
    ) -> dict[str, list[Any]]:
        prob, classes = predicted["prob"], self.spec.classes
        label = prob.argmax(1) if decided is None else decided
        return {"label": [classes[i] for i in label]} | {
            f"prob_{name}": [f"{p:.{digits}g}" for p in prob[:, i]] for i, name in enumerate(classes)
        }

    @override
    def agreement(
        self, predicted: Predicted, decided: np.ndarray | None, expected: Sequence[str], usable: Sequence[bool]
    ) -> list[str]:
        """Say how many classes are those that the inputs came with, and which of these the run does not know.

        Numbers are taken for positions among the classes where no class is a number itself.
        """
        classes = self.spec.classes
        label = predicted["prob"].argmax(1) if decided is None else decided
        known = {name: target for target, name in enumerate(classes)}
        if not any(is_number(name) for name in classes):
            known |= {str(target): target for target in range(len(classes))}
        there = [(own, name) for own, name, use in zip(label, expected, usable, strict=False) if name and use]
        spelled = respell({name for _, name in there}, [*known])
        strange = sorted(name for name, as_trained in spelled.items() if as_trained not in known)
        right = [own == known[spelled[name]] for own, name in there if spelled[name] in known]
        notes = [f"accuracy {sum(right) / len(right):.4f} on {len(right)} rows with a label"] if right else []
        if strange:
            left_out, shown = len(there) - len(right), ", ".join(strange[:5])
            notes.append(f"{left_out} rows have labels that training had not ({shown}); it knew {', '.join(classes)}")
        return notes


class MultiLabelAnswers(Answers):
    """Any number of labels of each example."""

    def names(self, chosen: np.ndarray) -> list[str]:
        return [
            LABEL_SEPARATOR.join(name for name, there in zip(self.spec.classes, row, strict=True) if there)
            for row in chosen
        ]

    @override
    def columns(
        self, predicted: Predicted, *, digits: int = 9, decided: np.ndarray | None = None
    ) -> dict[str, list[Any]]:
        prob = predicted["prob"]
        return {"labels": self.names(prob >= 0.5 if decided is None else decided)} | {
            f"prob_{name}": [f"{p:.{digits}g}" for p in prob[:, i]] for i, name in enumerate(self.spec.classes)
        }

    @override
    def agreement(
        self, predicted: Predicted, decided: np.ndarray | None, expected: Sequence[str], usable: Sequence[bool]
    ) -> list[str]:
        """Say how well the labels agree with those of the inputs. An empty cell counts as no label."""
        rows = [row for row, use in enumerate(usable) if use] if any(expected) else []
        if not rows:
            return []
        own = predicted["prob"] >= 0.5 if decided is None else decided
        wanted = [set(split_labels(expected[row])) for row in rows]
        true = np.array([[name in names for name in self.spec.classes] for names in wanted])
        strange = sorted(set().union(*wanted) - set(self.spec.classes))
        micro = 2 * (true & own[rows]).sum() / max(1, true.sum() + own[rows].sum())
        notes = [
            f"f1_micro {micro:.4f}, exact_match {(true == own[rows]).all(1).mean():.4f} on {len(rows)} rows with labels"
        ]
        if strange:
            notes.append(
                f"labels that training had not: {', '.join(strange[:5])}; it knew {', '.join(self.spec.classes)}"
            )
        return notes


class RegressionAnswers(Answers):
    """A number for each example, maybe with an interval."""

    @override
    def columns(
        self, predicted: Predicted, *, digits: int = 9, decided: np.ndarray | None = None
    ) -> dict[str, list[Any]]:
        return {name: predicted[name].tolist() for name in ("prediction", "lower", "upper") if name in predicted}

    @override
    def agreement(
        self, predicted: Predicted, decided: np.ndarray | None, expected: Sequence[str], usable: Sequence[bool]
    ) -> list[str]:
        """Say how far the predictions are from the numbers that the inputs came with, where there are two at least."""
        pairs = [
            (value, float(true))
            for value, true, there in zip(predicted["prediction"], expected, usable, strict=False)
            if there and is_number(true)
        ]
        name = self.spec.target.name
        given = [true for true, there in zip(expected, usable, strict=False) if there and true]
        strange = [true for true in given if not is_number(true)]
        notes = []
        if strange:
            rows = "1 row has" if len(strange) == 1 else f"{len(strange)} rows have"
            notes.append(f"{rows} a {name} that is no number: {', '.join(strange[:3])}")
        if len(pairs) < 2:
            return notes
        prediction, target = np.array(pairs, np.float64).T
        rmse = float(np.sqrt(np.mean((prediction - target) ** 2)))
        spread = np.sum((target - target.mean()) ** 2)
        r2 = 1 - np.sum((prediction - target) ** 2) / spread if spread else math.nan
        return [f"rmse {rmse:.4g}, r2 {r2:.4f} on {len(pairs)} rows with a {name}", *notes]


def answers_for(spec: DataSpec) -> Answers:
    """Return what says the predictions of a spec's target."""
    match spec.target.kind:
        case "single_label":
            found = SingleLabelAnswers()
        case "multi_label":
            found = MultiLabelAnswers()
        case "regression":
            found = RegressionAnswers()
    found.spec = spec
    return found
