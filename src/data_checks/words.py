"""Words that alone give a class away: a name, a site, a mark that stands in one class's texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer

from src.data_checks.findings import Examples, Finding
from src.data_checks.given_away import FEWEST, SHARE, Clue, clues


def telling(examples: Examples, words: Sequence[list[str]]) -> list[Finding]:
    """Return the words by which a class's training texts can be told, each word by itself: one finding a class.

    Args:
        words: of the texts of all splits, in lower case. How often a text has a word does not count.
    """
    rows = examples.of_split("train")
    if len(rows) < 2 * FEWEST:
        return []
    counter: Any = CountVectorizer
    vectorizer = counter(analyzer=set, binary=True, min_df=max(2, round(SHARE * FEWEST)))
    try:
        there = sparse.csr_matrix(vectorizer.fit_transform([words[row] for row in rows]))
    except ValueError:  # no word is in so many texts
        return []
    names = vectorizer.get_feature_names_out()
    found: list[Finding] = []
    for asked in examples.one_by_one():
        member = np.eye(len(asked.classes), dtype=np.int64)[asked.target[rows]]
        of_class: dict[int, list[Clue]] = {}
        for clue in clues((there.T @ member).T, member.sum(0)):
            of_class.setdefault(clue.label, []).append(clue)
        for first, *others in of_class.values():
            lines = tuple(f"{names[clue.feature]!r} {clue.counts('texts')}" for clue in others)
            what, cure = f"word {str(names[first.feature])!r}", "take it out of the texts"
            found.append(first.finding(what, asked, "texts", lines, cure))
    return found
