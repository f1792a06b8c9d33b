"""Shapley values of the columns of a row: a column's mean gain over all orders in which the columns may be shown."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from src.configs.errors import InputError
from src.explain.method import Attribution
from src.explain.subject import Subject
from src.explain.tables import TableExample

EVALUATIONS = 1024
"""Masks that a row is scored with, about as many as `shap` takes itself."""
REPEATS = 4
"""Estimates that share the masks; their spread is the Monte-Carlo error."""
LEAST = 4
"""Masks of an estimate for each column, below which the regression has hardly more masks than unknowns."""
Score = Callable[[np.ndarray], np.ndarray]
"""Masks [masks, columns] of 0s and 1s -> scores [masks]."""


class Estimate(NamedTuple):
    """Shapley values, their standard error, each [columns], and its degrees of freedom; 0 where they are exact."""

    values: np.ndarray
    error: np.ndarray
    freedom: int = 0


def load_shap() -> Any:
    """Return the library `shap`; raise an InputError where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what its colour maps do to matplotlib
            import shap
    except ImportError as error:
        raise InputError(f"shap cannot be imported ({error}). Install it: pip install -e '.[explain]'") from error
    return shap


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed numpy's global generator, which `shap` draws from, and leave it as it was."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


def kernel_shap(
    subject: Subject,
    examples: Sequence[TableExample],
    targets: Sequence[int],
    *,
    evaluations: int = EVALUATIONS,
    repeats: int = REPEATS,
    seed: int = 0,
) -> list[Attribution]:
    """Return Shapley values by a regression on masks (KernelSHAP; Lundberg & Lee 2017, arXiv 1705.07874).

    Args:
        subject: whose score is explained.
        examples: rows.
        targets: of each row.
        evaluations: masks a row, shared by the repeats. Where there are no more than so many, each is scored once and
            the values are exact.
        repeats: estimates of which the mean is returned, and the standard error.
        seed: of the first.
    """
    shap = load_shap()

    def estimate(score: Score, count: int, masks: int) -> np.ndarray:
        explainer = shap.KernelExplainer(score, np.zeros((1, count)))
        return explainer.shap_values(np.ones((1, count)), nsamples=masks, l1_reg=False, silent=True)[0]

    def explain(score: Score, count: int) -> Estimate:
        if 2**count - 2 <= evaluations:
            return Estimate(estimate(score, count, evaluations), np.zeros(count))
        found: list[np.ndarray] = []
        for number in range(repeats):
            with seeded(seed + number):
                found.append(estimate(score, count, max(evaluations // repeats, LEAST * count)))
        return Estimate(np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / np.sqrt(repeats), repeats - 1)

    return _values(subject, examples, targets, explain)


def permutation(
    subject: Subject,
    examples: Sequence[TableExample],
    targets: Sequence[int],
    *,
    evaluations: int = EVALUATIONS,
    seed: int = 0,
) -> list[Attribution]:
    """Return Shapley values by columns shown in drawn orders (Strumbelj & Kononenko 2014,
    https://doi.org/10.1007/s10115-013-0679-x), each order forwards and backwards.

    `shap.PermutationExplainer` draws alike, but takes milliseconds an order besides the network's, and gives the spread
    of single gains where the error of their mean is wanted.

    Args:
        subject: whose score is explained.
        examples: rows.
        targets: of each row.
        evaluations: masks a row; at least two orders are drawn, whose spread is the Monte-Carlo error.
        seed: of the orders.
    """

    def explain(score: Score, count: int) -> Estimate:
        orders = max(2, evaluations // (2 * count))
        places = np.random.default_rng(seed).permuted(np.tile(np.arange(count), (orders, 1)), axis=1)
        shown = places[:, None] < np.arange(count + 1)[:, None]  # [orders, steps, columns]
        masks, places_of = np.unique(np.concatenate([shown, ~shown]).reshape(-1, count), axis=0, return_inverse=True)
        scores = score(masks)[places_of].reshape(2, orders, count + 1)
        forwards, backwards = np.diff(scores[0], axis=1), -np.diff(scores[1], axis=1)
        gains = np.take_along_axis((forwards + backwards) / 2, places, axis=1)
        return Estimate(gains.mean(0), gains.std(0, ddof=1) / np.sqrt(orders), orders - 1)

    return _values(subject, examples, targets, explain)


def _values(
    subject: Subject,
    examples: Sequence[TableExample],
    targets: Sequence[int],
    explain: Callable[[Score, int], Estimate],
) -> list[Attribution]:
    """Return what `explain` finds for the columns that vary; the others have exactly 0."""
    found: list[Attribution] = []
    for example, target in zip(examples, targets, strict=True):
        columns = example.varying
        values, error, freedom = np.zeros(len(example)), np.zeros(len(example)), 0
        if len(columns):
            score = _score_of(subject, example, target, columns)
            values[columns], error[columns], freedom = explain(score, len(columns))
        hidden, shown = subject.scores(example, target, np.array([[False], [True]]).repeat(len(example), 1))
        found.append(Attribution(values, error, float(shown - hidden), enforced=True, freedom=freedom))
    return found


def _score_of(subject: Subject, example: TableExample, target: int, columns: np.ndarray) -> Score:
    """Return what scores a row with some of `columns` hidden."""

    def score(masks: np.ndarray) -> np.ndarray:
        kept = np.ones((len(masks), len(example)), bool)
        kept[:, columns] = masks > 0
        return subject.scores(example, target, kept)

    return score
