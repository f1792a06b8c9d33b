"""Explanations of a run's answers: from raw inputs to explanations that were checked."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from src.configs.errors import InputError
from src.configs.explain import MethodName
from src.datamodules import DataModule, PredictionInput, Table
from src.explain import images, tables, texts
from src.explain.boosting import Boosted, Boosting
from src.explain.checks import Checks, by_chance, can_be_compared, cascade, completeness, drawn, stability
from src.explain.clock import Clock
from src.explain.doubts import doubts, read_predictions
from src.explain.example import Example
from src.explain.explanation import Explanation, Explanations, Kind
from src.explain.faithfulness import faithfulness
from src.explain.images import ImageExample
from src.explain.method import Attribution, Method
from src.explain.methods import METHODS, UNSIGNED, described, unit
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
MOST = 500
"""Inputs of a call that are explained."""
AT_ONCE = 16
"""Examples that are explained between two looks at the clock."""


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
        if children := state.children(run):
            raise InputError(f"{run}: its children have the weights. Explain one of them: {children[0]}.")
        self.run, self.data_dir, self.record = run, data_dir, records.load(run)
        try:
            self.experiment, self.spec, task = predictor.load_run(run)
            datamodule: Any = predictor.restored(run, self.experiment)
        except predictor.OwnParts as error:
            raise predictor.OwnParts(
                f"{error} captum explains any module: "
                f"captum.attr.IntegratedGradients(leyden.load({str(run)!r}).model()).attribute(inputs, target=1), with "
                "inputs as its forward takes them; or FeatureAblation, Occlusion, Saliency, LayerGradCam. See "
                "docs/explain.md."
            ) from error
        self.subject = Subject(task, self.record.get("calibration", {}).get("temperature", 1.0))
        self.kind: Kind = datamodule.preparation(self.spec).kind
        there: list[MethodName] = [*METHODS[self.kind], *(["tree-shap"] if self.kind == "table" else [])]
        self.name: MethodName = method or there[0]
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
            found = overall(self.subject, self.table, self.target, enough=lambda: self.clock.is_up(1))
            left_out = found.left_out
        notes += [f"left out, {what}: the budget of {self.clock.budget:g} s was spent" for what in left_out]
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
        notes = [*read.notes]
        examples = read.examples[:MOST]
        if len(read.examples) > MOST:
            notes.append(f"the first {MOST} inputs are explained, and no more at a time")
        targets = self.targets(examples)
        found = self._attributions(examples, targets, 0.5)
        if left := len(examples) - len(found):
            notes.append(
                f"{left} of {len(examples)} inputs were left out: the budget of {self.clock.budget:g} s was spent"
            )
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
            described(self.name, self.subject, examples[0], self.target),
            checks,
            read.errors,
            notes,
            signed=self.name not in UNSIGNED,
            unit=unit(self.name, self.spec),
        )

    def targets(self, examples: Sequence[Example]) -> list[int]:
        """Return what is explained of each example."""
        return self.subject.likeliest(examples) if self.target is None else [self.target] * len(examples)

    def _attributions(self, examples: Sequence[Example], targets: Sequence[int], share: float) -> list[Attribution]:
        """Explain examples, at least the first few, until a share of the budget is spent."""
        found: list[Attribution] = []
        for start in range(0, len(examples), AT_ONCE):
            if found and self.clock.is_up(share):
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
        self, examples: Sequence[Example], targets: Sequence[int], found: Sequence[Attribution], notes: list[str]
    ) -> Checks:
        """Return what the checks say; what could not be checked is added to `notes`."""
        shown = found
        doubtful: list[str] = []
        if self.own is None:
            notes.append(f"checked on these inputs alone, since the run's data are not there: {self.why_not}")
        else:
            if self.record["state"] == "done":
                _, predicted, target = read_predictions(self.run, self.subject.task.objective)
                doubtful = doubts(predicted, target)
            else:
                now = self.record["state"]
                notes.append(f"the run is {now}, so that nothing tells whether its answers are better than a guess")
            examples = self.own_examples(CHECKED).examples
            targets = self.targets(examples)
            found = self._attributions(examples, targets, 0.6)
        count = len(found)
        faithful = faithfulness(self.subject, examples[:count], targets[:count], found, lambda: self.clock.is_up(0.8))
        if faithful is None:
            notes.append("an input has one part, so that the order of the parts cannot be checked")
        checks = Checks(
            faithful,
            completeness=completeness([*shown, *found]),
            enforced=any(one.enforced for one in found),
            drawn=drawn([*shown, *found]),
            empty=sum(not one.values.any() for one in found),
            doubts=doubtful,
        )
        again = [row for row in range(count) if can_be_compared(examples[row], found[row])][:REPEATED]
        if isinstance(self.subject, Boosted) or self.clock.is_up(0.8) or not again:
            why = "the budget was spent" if self.clock.is_up(0.8) else "the explanations have too few parts to tell"
            why = "they are of a network" if isinstance(self.subject, Boosted) else why
            notes.append(f"left out, randomised weights and changed inputs: {why}")
            return checks
        few, their = [examples[row] for row in again], [targets[row] for row in again]
        first = [found[row] for row in again]
        return replace(
            checks,
            cascade=cascade(self.subject, self.method, few, their, first),
            by_chance=by_chance(few),
            stable=stability(self.subject, self.method, few, their, first),
        )
