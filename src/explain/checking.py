"""The checks of a call: on which examples they are made, and in which order while there is time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from src.explain.checks import Checks, by_chance, can_be_compared, cascade, completeness, drawn, stability
from src.explain.clock import Clock
from src.explain.example import Example
from src.explain.faithfulness import faithfulness
from src.explain.method import Attribution, Method
from src.explain.subject import Subject

AT_ONCE = 16
"""Examples that are explained between two looks at the clock, once it is known that few of them are fast."""
REPEATED = 4
"""Examples that are explained again with randomised weights, and after a small change."""
AGAIN = 4
"""Times that each of them is: at three steps of the cascade, and changed."""


def attributions(
    subject: Subject,
    method: Method,
    examples: Sequence[Any],
    targets: Sequence[int],
    enough: Callable[[], bool] = lambda: False,
) -> list[Attribution]:
    """Explain examples until the time is up, one at least: 1, then 1, 2, 4, ... between two looks at the clock."""
    found: list[Attribution] = []
    while len(found) < len(examples) and not (found and enough()):
        part = slice(len(found), len(found) + min(max(1, len(found)), AT_ONCE))
        found += method(subject, examples[part], targets[part])
    return found


def check(
    subject: Subject,
    method: Method,
    examples: Sequence[Example],
    targets: Sequence[int],
    clock: Clock,
    *,
    shown: Sequence[Attribution],
    of_validation: bool,
    of_network: bool,
) -> tuple[Checks, list[str]]:
    """Return what the checks say, and what was left out of them.

    The agreement with random weights comes before the curves, which take whatever time is left.

    Args:
        subject: that is explained.
        method: the method.
        examples: that it is checked on.
        targets: of each.
        clock: says what time there is.
        shown: the explanations of the call, which may be of other examples.
        of_validation: whether the examples are those of the validation split; else they are those of `shown`.
        of_network: whether a network is explained, whose weights can be randomised.
    """
    notes: list[str] = []
    found, seconds = [*shown], 0.0
    if of_validation:
        began = clock.spent
        found = attributions(subject, method, examples, targets, lambda: clock.is_up(0.6))
        seconds = (clock.spent - began) / len(found)
    count = len(found)
    checks = Checks(
        None,
        completeness=completeness([*shown, *found]),
        enforced=any(one.enforced for one in found),
        drawn=drawn([*shown, *found]),
        empty=sum(not one.values.any() for one in found),
        checked=count,
    )
    again = [row for row in range(count) if can_be_compared(examples[row], found[row])][:REPEATED]
    if not of_network:
        notes.append("left out, randomised weights and changed inputs: they are of a network")
    elif not again:
        notes.append("left out, randomised weights and changed inputs: the explanations have too few parts to tell")
    elif clock.is_up(0.7) or not (again := again[: clock.times(AGAIN * seconds, until=0.9)]):
        notes.append("left out, randomised weights and changed inputs: the budget was spent")
    else:
        few, their, first = (
            [examples[row] for row in again],
            [targets[row] for row in again],
            [found[row] for row in again],
        )
        checks = replace(
            checks,
            cascade=cascade(subject, method, few, their, first),
            by_chance=by_chance(few),
            stable=stability(subject, method, few, their, first),
        )
    faithful = faithfulness(subject, examples[:count], targets[:count], found, lambda: clock.is_up(0.8))
    if faithful is None:
        notes.append("an input has one part, so that the order of the parts cannot be checked")
    elif of_validation and clock.is_up(0.6) and faithful.examples < len(examples):
        notes.append(f"{faithful.examples} of {len(examples)} validation examples were checked: {clock.over}")
    return replace(checks, faithful=faithful), notes
