"""What counts as the same answer: differences, decisions and their ties; and how far a comparison is."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from src.configs.errors import InputError
from src.datamodules.preparation import Arrays
from src.deploy import plain
from src.deploy.parity import BOUND, Answer, Parity, Reference, compare, ties_in
from src.deploy.prepared import require_parity
from src.terminal.progress import counted

COUNT = 40


class Numbered:
    """Inputs that are their own positions."""

    id_name, expected, lengths = "id", (), None

    @property
    def ids(self) -> list[str]:
        return [str(key) for key in range(COUNT)]

    def __len__(self) -> int:
        return COUNT

    def arrays(self, keys: Sequence[int]) -> Arrays:
        return Arrays([*keys], {"key": np.array(keys)}, {})


def answers_by(values: dict[str, np.ndarray]) -> Answer:
    return lambda arrays: {name: of_all[arrays[0]["key"]] for name, of_all in values.items()}


def compared(
    wanted: dict[str, np.ndarray],
    change: Callable[[dict[str, np.ndarray]], None],
    threshold: float | None = None,
    thresholds: Sequence[float] = (),
) -> Parity:
    """Return the parity of answers that are others than wanted after a change."""
    answers = {name: values.copy() for name, values in wanted.items()}
    change(answers)
    ties = ties_in(wanted, threshold, np.array(thresholds))
    return compare([Numbered()], answers_by(answers), Reference(wanted, ties, 0), 0)


def classes(first: float = 0.3) -> dict[str, np.ndarray]:
    prob = np.tile(np.array([first, 1 - first], np.float32), (COUNT, 1))
    return {"prob": prob, "label": prob.argmax(1)}


@pytest.mark.parametrize("wanted", [classes(), {"prediction": np.arange(COUNT, dtype=np.float32)}])
@pytest.mark.parametrize("example", [0, COUNT - 1])
def test_an_answer_that_is_no_number_is_refused(wanted: dict[str, np.ndarray], example: int) -> None:
    name = next(iter(wanted))

    def spoil(answers: dict[str, np.ndarray]) -> None:
        answers[name][example] = np.nan

    assert compared(wanted, lambda answers: None).holds
    parity = compared(wanted, spoil)
    assert np.isnan(parity.largest)
    with pytest.raises(InputError, match=r"is not kept: the largest difference is nan"):
        require_parity(parity, "onnx")


def test_an_output_of_a_plain_module_that_is_no_number_is_far() -> None:
    wanted = {"a": np.ones((2, 3)), "b": np.zeros(2)}
    assert plain.distance(wanted, wanted) == 0
    for name in wanted:
        assert np.isnan(plain.distance(wanted | {name: wanted[name] * np.nan}, wanted))


def test_a_decision_may_differ_where_the_bound_decides_it_and_nowhere_else() -> None:
    def flip(name: str, example: int) -> Callable[[dict[str, np.ndarray]], None]:
        def change(answers: dict[str, np.ndarray]) -> None:
            answers[name][example] = 1 - answers[name][example]

        return change

    near, far = 0.5 + BOUND / 2, 0.5 + 3 * BOUND
    assert compared(classes(near), flip("label", 5)).holds
    assert compared(classes(far), flip("label", 5)).labels_equal == COUNT - 1
    for first, threshold, equal in ((near, 0.3, COUNT - 1), (0.7, 0.3 + BOUND / 2, COUNT), (0.7, 0.2, COUNT - 1)):
        wanted = classes(first)
        wanted["label_by_threshold"] = (wanted["prob"][:, 1] >= threshold).astype(int)
        assert compared(wanted, flip("label_by_threshold", 5), threshold).labels_equal == equal
    labels = {"prob": classes(0.2 + BOUND / 2)["prob"], "labels": np.ones((COUNT, 2), int)}
    assert compared(labels, lambda answers: answers["labels"].__setitem__((5, 0), 0), None, (0.2, 0.79)).holds
    wrong = compared(labels, lambda answers: answers["labels"].__setitem__((5, 1), 0), None, (0.2, 0.79))
    assert wrong.labels_equal == COUNT - 1


def test_two_classes_of_one_raw_probability_are_tied_whatever_the_temperature() -> None:
    wanted = {"prob_uncalibrated": classes(0.5 + BOUND / 2)["prob"]} | classes(0.501)
    assert ties_in(wanted, None, np.array([]))["label"].all()


def test_a_terminal_is_told_how_far_a_comparison_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for in_terminal in (True, False):
        stream = io.StringIO()
        monkeypatch.setattr(stream, "isatty", lambda there=in_terminal: there)
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("TERM", "xterm")
        assert list(counted("parity", [4, 5, 6])) == [4, 5, 6]
        assert ("parity" in stream.getvalue() and "2/3" in stream.getvalue()) == in_terminal
        assert in_terminal or not stream.getvalue()
