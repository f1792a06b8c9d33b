"""Explanations of a run's answers: from raw inputs to explanations that were checked."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from src.configs.errors import InputError
from src.configs.explain import MethodName
from src.datamodules import DataModule, PredictionInput, Table
from src.explain import images, tables, texts
from src.explain.boosting import Boosted, Boosting
from src.explain.checking import attributions, check
from src.explain.checks import Checks
from src.explain.clock import Clock
from src.explain.doubts import doubts_of, read_predictions
from src.explain.example import Example
from src.explain.explanation import Explanation, Explanations, Kind
from src.explain.images import ImageExample
from src.explain.method import Attribution, Method
from src.explain.methods import METHODS, UNSIGNED, default_method, described, unit
from src.explain.neighbours import TrainingFeatures, nearest, words_of
from src.explain.overall import Overall, overall
from src.explain.subject import Subject
from src.explain.tables import TableExample
from src.inference import predictor
from src.inference.own_data import data_of, examples_of, moved_to
from src.runs import records

CHECKED = 60
"""Validation examples whose explanations are checked."""
MOST = 500
"""Inputs of a call that are explained."""


class Read(NamedTuple):
    """Inputs that can be explained."""

    examples: list[Any]
    errors: dict[str, str]
    """Id -> why an input cannot be read."""
    notes: list[str]
    titles: Sequence[str] = ()
    """Of the run's own mistakes, what was wrong; '' where that is not known."""
    targets: Sequence[int] = ()
    """Of the run's own mistakes, the class that was predicted, or the label that was decided worst."""


class Explainer:
    """A run, ready to be explained.

    Args:
        run: the run directory.
        method: the default of the kind of input unless given; see `METHODS`.
        target: class or label to explain; the likeliest one of each input unless given.
        data_dir: where its data are now, if they have moved.
        budget: seconds after which no further example is explained or checked; None for no limit.

    Raises:
        InputError: the run has no weights of its own, or is of parts whose raw inputs are not known; or the method or
            the target does not fit it.
    """

    def __init__(
        self,
        run: Path,
        *,
        method: MethodName | None = None,
        target: str = "",
        data_dir: Path | None = None,
        budget: float | None = None,
    ) -> None:
        self.clock = Clock(budget)
        records.refuse_study(run, records.load(run), "Explain")
        run, self.notes = predictor.that_counts_most(run)
        self.run, self.data_dir, self.record = run, data_dir, records.load(run)
        module = f"leyden.load({str(run)!r}).model()"
        try:
            self.experiment, self.spec, task = predictor.load_run(run)
            module += ".model"  # a task takes batches, its network tensors
            datamodule: Any = predictor.restored(run, self.experiment)
        except predictor.OwnParts as error:
            raise predictor.OwnParts(
                f"{error} captum explains any module: "
                f"captum.attr.IntegratedGradients({module}).attribute(inputs, target=1), with "
                "inputs as its forward takes them; or FeatureAblation, Occlusion, Saliency, LayerGradCam. See "
                "docs/explain.md."
            ) from error
        self.calibration: dict[str, Any] = self.record.get("calibration", {})
        self.network = self.subject = Subject(task, self.calibration.get("temperature", 1.0))
        self.kind: Kind = datamodule.preparation(self.spec).kind
        there: list[MethodName] = [*METHODS[self.kind], *(["tree-shap"] if self.kind == "table" else [])]
        self.name: MethodName = method or default_method(self.kind, task.model)
        if self.name not in there:
            raise InputError(f"--method {method}: not for {self.kind}s. There: {', '.join(there)}.")
        self.target = self.subject.target_named(target) if target else None
        self.why_not = ""
        self.background = tables.background(self.table) if self.kind == "table" else None
        if self.name == "tree-shap":
            self.method: Method = Boosting(self.table)
            self.subject = Boosted(task, self.method)
        else:
            self.method = METHODS[self.kind][self.name]

    @functools.cached_property
    def own(self) -> DataModule | None:
        """The run's own data, set up as they were; None, and `why_not`, where they are gone.

        Raises:
            InputError: they are not where they were said to be.
        """
        try:
            return data_of(self.run, moved_to(self.experiment, self.data_dir))
        except InputError as error:
            if self.data_dir is not None:
                raise
            self.why_not = str(error)
            return None

    @property
    def table(self) -> Table:
        """The run's own table, whose rows hide cells; raise an InputError where it is gone."""
        if not isinstance(self.own, Table):
            raise InputError(self.why_not)
        return self.own

    def read(self, inputs: Sequence[PredictionInput]) -> Read:
        """Return inputs, as `predict` takes them, as examples.

        Raises:
            InputError: they are of another kind than the run's.
        """
        datamodule: Any = predictor.restored(self.run, self.experiment)
        if self.kind == "image":
            return Read(*images.read(datamodule, self.subject.task, inputs, MOST))
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
        try:
            ids, predicted, target = read_predictions(self.run, objective)
        except InputError as error:
            raise InputError(f"--mistakes: {error} Name inputs.") from error
        mistakes = objective.mistakes(predicted, target, count, self.calibration)
        rows = mistakes.positions.tolist()
        if not rows:
            raise InputError(f"--mistakes: {self.run} makes none on its validation split. Name inputs.")
        there = [str(name) for name in self.own.ids("val")]
        if ids != there:  # the run has looked at a part of the split alone
            place = {name: position for position, name in enumerate(there)}
            rows = [place[ids[row]] for row in rows]
        read = self.own_examples(rows)
        if len(read.examples) < len(rows):
            return read._replace(titles=[""] * len(read.examples))
        return read._replace(titles=mistakes.titles, targets=mistakes.targets.tolist())

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

    def overall(self, notes: list[str]) -> Overall | None:
        """Return what the run looks at over its validation split; None for images and texts, or without time for it.

        Args:
            notes: gets what was left out.
        """
        if self.kind != "table":
            return None
        left_out: Sequence[str] = ("permutation importance and partial dependence",)
        found = None
        if not self.clock.is_up(0.9):
            found = overall(self.network, self.table, self.target, enough=lambda: self.clock.is_up(1))
            left_out = found.left_out
        notes += [f"left out, {what}: {self.clock.over}" for what in left_out]
        return found

    def explain(self, read: Read) -> Explanations:
        """Explain inputs, and check the method.

        The checks look at examples of the validation split, where the run's data are there, else at the inputs.

        Args:
            read: by `read` or `worst`.

        Raises:
            InputError: none of the inputs can be read, or the method does not fit the network.
        """
        if not read.examples:
            raise InputError(next((f"{id}: {why}." for id, why in read.errors.items()), "nothing to explain."))
        notes = [*self.notes, *read.notes]
        examples = read.examples[:MOST]
        if len(read.examples) > MOST:
            notes.append(f"the first {MOST} inputs are explained, and no more at a time")
        targets = self.targets(examples, read.targets)
        found = attributions(self.subject, self.method, examples, targets, lambda: self.clock.is_up(0.4))
        if left := len(examples) - len(found):
            notes.append(f"{left} of {len(examples)} inputs were left out: {self.clock.over}")
        examples = examples[: len(found)]
        explanations = [self._explanation(*each) for each in zip(examples, targets, found, strict=False)]
        checks = self._checks(examples, targets[: len(found)], found, notes)
        if self.own is not None:
            train = TrainingFeatures(self.subject, self.own, lambda: self.clock.is_up(0.9))
            notes += train.notes
            near = nearest(self.subject, train, examples)
            explanations = [replace(one, neighbours=its) for one, its in zip(explanations, near, strict=True)]
        return Explanations(
            explanations,
            described(self.name, self.subject, examples[0], self.target, mistakes=bool(read.targets)),
            checks,
            read.errors,
            notes,
            signed=self.name not in UNSIGNED,
            unit=unit(self.name, self.spec),
        )

    def targets(self, examples: Sequence[Example], mistaken: Sequence[int] = ()) -> list[int]:
        """Return what is explained of each example; of mistakes the network's, unless another answer is explained."""
        if self.target is None and mistaken and not isinstance(self.subject, Boosted):
            return [*mistaken[: len(examples)]]
        return self.subject.likeliest(examples) if self.target is None else [self.target] * len(examples)

    def _explanation(self, example: Example, target: int, found: Attribution) -> Explanation:
        given: dict[str, Any] = {"names": example.names, "error": found.error, "freedom": found.freedom}
        values = found.values
        if isinstance(example, ImageExample):
            values = example.of_pixels(values) if values.ndim == 1 else values
            given = {"image": example.as_bytes()}
        elif isinstance(example, TableExample):
            given |= {"cells": example.cells, "quantiles": example.quantiles}
        answer = self.subject.answer(example, target)
        given["given"] = self._given(answer, target)
        name = self.subject.classes[target] if self.subject.classes else "prediction"
        return Explanation(example.id, self.kind, name, answer, values, expected=example.expected, **given)

    def _given(self, answer: float, target: int) -> bool | None:
        """Return whether a label is given, as `predict` decides; None where one class or a number is predicted."""
        if self.spec.target.kind != "multi_label":
            return None
        prob = np.zeros((1, self.spec.num_classes))
        prob[0, target] = answer
        calibration = {} if isinstance(self.subject, Boosted) else self.calibration
        decided: Any = self.subject.task.objective.decide({"prob": prob}, calibration)
        return bool(decided[0, target])

    def _checks(
        self, examples: Sequence[Example], targets: Sequence[int], shown: Sequence[Attribution], notes: list[str]
    ) -> Checks:
        """Return what the checks say; what could not be checked is added to `notes`."""
        doubtful: list[str] = []
        if self.own is None:
            notes.append(f"checked on these inputs alone: {self.why_not}")
        else:
            doubtful, unknown = doubts_of(self.run, self.record, self.subject.task.objective)
            notes += unknown
            examples = self.own_examples(CHECKED).examples
            targets = self.targets(examples)
        checks, left_out = check(
            self.subject,
            self.method,
            examples,
            targets,
            self.clock,
            shown=shown,
            of_validation=self.own is not None,
            of_network=not isinstance(self.subject, Boosted),
        )
        notes += left_out
        return replace(checks, doubts=doubtful)
