"""Texts: the same or nearly the same in two splits, without words, repeated, or of a length out of the ordinary."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import HashingVectorizer

from src.data_checks.findings import Examples, Finding, Pair
from src.data_checks.numbers import outliers

WORD = re.compile(r"\w+")
SHINGLE = 3
"""Words of a shingle (Broder 1997, https://doi.org/10.1109/SEQUEN.1997.666900)."""
MOST_OFTEN = 50
"""Texts with a shingle in common beyond which it says nothing: a stock phrase."""
SHARED = 0.25
"""Share of the shorter text's telling shingles that two texts must have in common to be compared word by word."""
ALIKE = 0.8
"""Share of the words of both that are in the same order."""
SHORTEST = 8
"""Words of a text below which only the same words are the same text: short sentences are alike by chance."""
CHUNK = 2000


def in_words(texts: Sequence[str]) -> list[list[str]]:
    """Return the words of each text in lower case, without punctuation."""
    return [WORD.findall(text.lower()) for text in texts]


def repeated(examples: Examples, words: Sequence[list[str]]) -> Iterator[Pair]:
    """Yield the texts of val and test that an earlier split has too, some words changed included."""
    where: dict[str, list[int]] = defaultdict(list)
    joined = [" ".join(found) for found in words]
    for position, text in enumerate(joined):
        for other in where[text] if text else ():
            if examples.split[other] < examples.split[position]:
                yield Pair(other, position, "the same words")
        where[text].append(position)
    for early, late in _candidates(examples, joined):
        if joined[early] != joined[late] and min(len(words[early]), len(words[late])) >= SHORTEST:
            matcher = SequenceMatcher(None, words[early], words[late], autojunk=False)
            if matcher.quick_ratio() >= ALIKE and (alike := matcher.ratio()) >= ALIKE:
                yield Pair(early, late, f"{alike:.0%} of the words")


def _candidates(examples: Examples, joined: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield positions of an earlier and a later split that have enough rare shingles in common."""
    hashing: Any = HashingVectorizer
    vectorizer = hashing(
        ngram_range=(SHINGLE, SHINGLE),
        token_pattern=r"\S+",
        lowercase=False,
        binary=True,
        norm=None,
        alternate_sign=False,
        n_features=2**24,
        dtype=np.float32,
    )
    shingles = sparse.csc_matrix(vectorizer.transform(joined))
    often = np.diff(shingles.indptr)
    telling = sparse.csr_matrix(shingles[:, (often > 1) & (often <= MOST_OFTEN)])
    sizes = np.diff(telling.indptr)
    for late in range(1, len(examples.splits)):
        before, rows = np.flatnonzero(examples.split < late), np.flatnonzero(examples.split == late)
        theirs = sparse.csc_matrix(telling[before].T)
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            shared = sparse.coo_matrix(telling[chunk] @ theirs)
            mine, other = chunk[shared.row], before[shared.col]
            enough = shared.data >= np.maximum(1, SHARED * np.minimum(sizes[mine], sizes[other]))
            yield from zip(other[enough].tolist(), mine[enough].tolist(), strict=True)


def odd_texts(examples: Examples, texts: Sequence[str], words: Sequence[list[str]]) -> list[Finding]:
    """Return texts without a word, texts that stand many times, or with two labels, and lengths out of the ordinary."""
    found: list[Finding] = []
    if empty := [position for position, some in enumerate(words) if not some]:
        shown = [f"{examples.name(i)} ({texts[i][:40]!r})" for i in empty]
        found.append(Finding(f"texts without a word in them: {len(empty)}", examples=tuple(shown)))
    where: dict[str, list[int]] = defaultdict(list)
    for position, some in enumerate(words):
        if some:
            where[" ".join(some)].append(position)
    groups = [group for group in where.values() if len(group) > 1]
    twofold = [group for group in groups if len({examples.label(i) for i in group}) > 1]
    shown = [", ".join(f"{examples.name(i)} ({examples.label(i)})" for i in group[:4]) for group in twofold]
    if twofold:
        title = f"texts that stand several times with different labels: {len(twofold)}"
        found.append(Finding(title, examples=tuple(shown)))
    if spare := sum(len(group) - 1 for group in groups):
        longest = sorted(groups, key=len, reverse=True)
        shown = [f"{len(group)} times: {texts[group[0]][:60]!r} ({examples.name(group[0])})" for group in longest]
        title = f"texts with the very words of another one: {spare}"
        found.append(Finding(title, examples=tuple(shown)))
    lengths = np.array([max(1, len(some)) for some in words])
    names = [f"{examples.name(i)} ({length} words)" for i, length in enumerate(lengths)]
    return found + outliers(lengths, names, "unusually long or short texts")
