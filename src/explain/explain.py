"""Explanations of a run's answers: from raw inputs to explanations that were checked."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from src.configs.errors import InputError
from src.configs.explain import MethodName
from src.datamodules import DataModule, PredictionInput, Table
from src.explain import images, perturbation, shapley, table_gradients, tables, text_gradients, texts
from src.explain.boosting import Boosted, Boosting
from src.explain.checks import Checks, cascade, completeness, faithfulness, stability
from src.explain.doubts import doubts, read_predictions
from src.explain.example import Example
from src.explain.explanation import Explanation, Explanations, Kind
from src.explain.images import ImageExample
from src.explain.layers import last_maps
from src.explain.method import Attribution, Method
from src.explain.neighbours import TrainingFeatures, nearest, words_of
from src.explain.overall import Overall, overall
from src.explain.subject import Subject
from src.explain.tables import TableExample
from src.inference import predictor
from src.inference.own_data import data_of, examples_of, moved_to
from src.runs import records, state

CHECKED = 60
"""Validation examples whose explanations are compared with random orders."""
REPEATED = 4
"""Of them, those that are explained again with randomised weights, and after a small change."""
AT_ONCE = 16
"""Examples that are explained between two looks at the clock."""
METHODS: dict[Kind, dict[MethodName, Method]] = {
    "image": {
        "grad-cam": images.grad_cam,
        "integrated-gradients": images.integrated_gradients,
        "saliency": images.saliency,
        "occlusion": perturbation.occlusion,
        "attention-rollout": images.attention_rollout,
    },
    "text": {
        "integrated-gradients": text_gradients.integrated_gradients,
        "occlusion": perturbation.occlusion,
        "lime": perturbation.lime,
        "attention-rollout": texts.attention_rollout,
    },
    "table": {
        "kernel-shap": shapley.kernel_shap,
        "permutation": shapley.permutation,
        "integrated-gradients": table_gradients.integrated_gradients,
        "occlusion": perturbation.occlusion,
    },
}
"""Kind of input -> its methods, the default first. Tables have `tree-shap` too, which asks no network."""
WORDS: dict[MethodName, str] = {
    "grad-cam": "Grad-CAM",
    "integrated-gradients": "integrated gradients",
    "saliency": "saliency with SmoothGrad",
    "occlusion": "occlusion",
    "attention-rollout": "attention rollout",
    "lime": "LIME",
    "kernel-shap": "KernelSHAP",
    "permutation": "Shapley values by permutations",
    "tree-shap": "TreeSHAP of gradient boosting on the same rows, not of the network",
}
"""What the methods are called where people read of them."""


class Clock:
    """Says when a budget is spent.

    Args:
        budget: seconds; None for no limit.
    """

    def __init__(self, budget: float | None) -> None:
        self.began, self.budget = time.monotonic(), math.inf if budget is None else budget

    def is_up(self, share: float) -> bool:
        """Return whether a share of the budget is spent."""
        return time.monotonic() - self.began >= share * self.budget


class Read(NamedTuple):
    """Inputs that can be explained."""

    examples: list[Any]
    errors: dict[str, str]
    """Id -> why an input cannot be read."""
    notes: list[str]


class Explainer:
    """A run, ready to be explained.

    Args:
        run: the run directory.
        method: the default of the kind of input unless given; see `METHODS`.
        target: class or label to explain; the likeliest one of each input unless given.
        data_dir: where the run's data are now, if they have moved.

    Raises:
        InputError: the run has no weights of its own, or is of parts whose raw inputs are not known; or the method or
            the target does not fit it.
    """

    def __init__(
        self, run: Path, *, method: MethodName | None = None, target: str = "", data_dir: Path | None = None
    ) -> None:
        if children := state.children(run):
            raise InputError(f"{run}: its children have the weights. Explain one of them: {children[0]}.")
        records.load(run)
        self.run = run
        self.experiment, self.spec, task = predictor.load_run(run)
        self.subject = Subject(task)
        datamodule: Any = predictor.restored(run, self.experiment)
        self.kind: Kind = datamodule.preparation(self.spec).kind
        there = [*METHODS[self.kind], *(["tree-shap"] if self.kind == "table" else [])]
        self.name: MethodName = method or there[0]
        if self.name not in there:
            raise InputError(f"--method {method}: not for {self.kind}s. There: {', '.join(there)}.")
        self.target = self.subject.target_named(target) if target else None
        self.own: DataModule | None = None
        self.why_not = ""
        try:
            self.own = data_of(run, moved_to(self.experiment, data_dir))
        except InputError as error:
            if data_dir is not None or self.kind == "table":  # what hides a cell is the training's
                raise
            self.why_not = str(error)
        if self.name == "tree-shap":
            assert isinstance(self.own, Table)
            self.method = Boosting(self.own)
            self.subject = Boosted(task, self.method)
        else:
            self.method = METHODS[self.kind][self.name]
        self.background = tables.background(self.own) if isinstance(self.own, Table) else None

    def read(self, inputs: Sequence[PredictionInput]) -> Read:
        """Return inputs, as `predict` takes them, as examples.

        Raises:
            InputError: they are of another kind than the run's.
        """
        datamodule: Any = predictor.restored(self.run, self.experiment)
        if self.kind == "image":
            return Read(*images.read(datamodule, self.subject.task, inputs))
        if self.kind == "text":
            return Read(*texts.read(datamodule, self.spec, inputs))
        assert self.background is not None
        return Read(*tables.read(datamodule, self.spec, inputs, self.background))

    def worst(self, count: int) -> Read:
        """Return the run's worst mistakes on its validation split, the worst first, with their ids there.

        Raises:
            InputError: the run's data or its predictions are not there, or it makes no mistake.
        """
        if self.own is None:
            raise InputError(f"--mistakes: needs the run's data. {self.why_not}")
        objective = self.subject.task.objective
        ids, predicted, target = read_predictions(self.run, objective)
        rows = objective.mistakes(predicted, target, count).positions.tolist()
        if not rows:
            raise InputError(f"--mistakes: {self.run} makes none on its validation split. Name inputs.")
        there = [str(name) for name in self.own.ids("val")]
        if ids != there:  # the run has looked at a part of the split alone
            place = {name: position for position, name in enumerate(there)}
            rows = [place[ids[row]] for row in rows]
        return self.own_examples(rows)

    def own_examples(self, wanted: int | Sequence[int]) -> Read:
        """Return examples of the run's own validation split; see `examples_of`."""
        assert self.own is not None
        there = examples_of(self.own, "val", wanted)
        read = self.read(there.raw)
        if len(read.examples) == len(there):  # else one cannot be read any more, and who is who is not known
            names = words_of(self.subject, self.own.targets("val")[there.positions])
            for example, id, target in zip(read.examples, there.ids, names, strict=True):
                example.id, example.expected = id, target
        return read

    def overall(self) -> Overall | None:
        """Return what the run looks at over its validation split; None for images and texts."""
        return overall(self.subject, self.own, self.target) if isinstance(self.own, Table) else None

    def explain(self, read: Read, budget: float | None = None) -> Explanations:
        """Explain inputs, and check the method.

        The checks look at examples of the validation split, where the run's data are there, else at the inputs.

        Args:
            read: by `read` or `worst`.
            budget: seconds after which no further example is explained or checked; at least one batch is.

        Raises:
            InputError: none of the inputs can be read, or the method does not fit the network.
        """
        clock = Clock(budget)
        if not read.examples:
            raise InputError(next((f"{id}: {why}." for id, why in read.errors.items()), "nothing to explain."))
        notes = read.notes
        targets = self.targets(read.examples)
        found = self._attributions(read.examples, targets, clock, 0.5)
        if left := len(read.examples) - len(found):
            notes.append(f"{left} of {len(read.examples)} inputs were left out: the budget of {budget:g} s was spent")
        examples = read.examples[: len(found)]
        explanations = [self._explanation(*each) for each in zip(examples, targets, found, strict=False)]
        checks = self._checks(examples, targets, found, clock, notes)
        if self.own is not None:
            train = TrainingFeatures(self.subject, self.own, lambda: clock.is_up(0.9))
            notes += train.notes
            near = nearest(self.subject, train, examples)
            explanations = [replace(one, neighbours=its) for one, its in zip(explanations, near, strict=True)]
        return Explanations(explanations, self.described(read.examples[0]), checks, read.errors, notes)

    def described(self, example: Example) -> str:
        """Return the method in words, with the layer that it looks at and what is explained."""
        where = f", {last_maps(self.subject.network, example.tensors)}" if self.name == "grad-cam" else ""
        what = "the number that is predicted"
        if self.subject.classes:
            what = "the likeliest class" if self.target is None else f"class {self.subject.classes[self.target]}"
        return f"{WORDS[self.name]}{where}, for {what}"

    def targets(self, examples: Sequence[Example]) -> list[int]:
        """Return what is explained of each example."""
        return self.subject.likeliest(examples) if self.target is None else [self.target] * len(examples)

    def _attributions(
        self, examples: Sequence[Example], targets: Sequence[int], clock: Clock, share: float
    ) -> list[Attribution]:
        """Explain examples, at least the first few, until a share of the budget is spent."""
        found: list[Attribution] = []
        for start in range(0, len(examples), AT_ONCE):
            if found and clock.is_up(share):
                break
            part = slice(start, start + AT_ONCE)
            found += self.method(self.subject, examples[part], targets[part])
        return found

    def _explanation(self, example: Example, target: int, found: Attribution) -> Explanation:
        given: dict[str, Any] = {"names": example.names, "error": found.error}
        values = found.values
        if isinstance(example, ImageExample):
            values = example.of_pixels(values) if values.ndim == 1 else values
            given = {"image": example.as_bytes()}
        elif isinstance(example, TableExample):
            given |= {"cells": example.cells, "quantiles": example.quantiles}
        answer = self.subject.answer(example, target)
        name = self.subject.classes[target] if self.subject.classes else "prediction"
        return Explanation(example.id, self.kind, name, answer, values, expected=example.expected, **given)

    def _checks(
        self,
        examples: Sequence[Example],
        targets: Sequence[int],
        found: Sequence[Attribution],
        clock: Clock,
        notes: list[str],
    ) -> Checks:
        if self.own is None:
            notes.append(f"checked on these inputs alone, since the run's data are not there: {self.why_not}")
        else:
            examples = self.own_examples(CHECKED).examples
            targets = self.targets(examples)
            found = self._attributions(examples, targets, clock, 0.6)
        count = len(found)
        faithful = faithfulness(self.subject, examples[:count], targets[:count], found, lambda: clock.is_up(0.8))
        few = min(REPEATED, count)
        again = self.subject, self.method, examples[:few], targets[:few], found[:few]
        doubtful: list[str] = []
        if self.own is not None:
            _, predicted, target = read_predictions(self.run, self.subject.task.objective)
            doubtful = doubts(predicted, target)
        complete = completeness(found)
        empty = sum(np.ptp(one.values) == 0 for one in found[: faithful.examples])
        if isinstance(self.subject, Boosted):  # it has no weights to randomise, and its rows are not changed
            return Checks(faithful, completeness=complete, empty=empty, doubts=doubtful)
        if clock.is_up(0.8):
            notes.append("left out: randomised weights and changed inputs; the budget was spent")
            return Checks(faithful, completeness=complete, empty=empty, doubts=doubtful)
        return Checks(faithful, cascade(*again), stability(*again), complete, empty, doubtful)
