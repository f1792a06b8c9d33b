"""What alone gives a class away: a word or a colour that stands in the examples of one class and in few others."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import hypergeom

from src.data_checks.findings import Examples, Finding

GIVEN_AWAY = 0.99
"""Balanced accuracy, of telling a class by one thing alone, from which on it is taken for the class in other words."""
NEARLY = 0.9
"""The same, from which on a person is asked. Words of 33 000 film reviews reach 0.62, colours of photographs 0.60."""
PRECISION = 0.95
"""Share of this class among the examples that have it, if all classes were as common: asked from here on too, where
`SHARE` of the class have it. Of words in a tenth of a class of film reviews the best is 'waste' with 0.93."""
SHARE = 0.4
CHANCE = 0.01
"""Probability that any of all words or colours is distributed so by chance (Fisher's exact test times their number)."""
FEWEST = 20
"""Examples of a class below which it is not judged."""


class Clue(NamedTuple):
    """Something that a class's examples have and few others."""

    feature: int
    label: int
    """Position in the classes."""
    inside: int
    """Examples of the class that have it, of `size`."""
    size: int
    outside: int
    """Other examples that have it, of `others`."""
    others: int

    @property
    def balanced_accuracy(self) -> float:
        return 0.5 + (self.inside / self.size - self.outside / self.others) / 2

    def finding(self, what: str, examples: Examples, kinds: str, lines: tuple[str, ...], cure: str) -> Finding:
        """Return what is said of it.

        Args:
            what: the thing, as "word 'xyz'".
            kinds: 'texts', 'images'.
            lines: the finding's examples.
            cure: what to do if it is not known at prediction.
        """
        wrong = self.balanced_accuracy >= GIVEN_AWAY
        return Finding(
            f"{what} alone {'gives' if wrong else 'nearly gives'} class {examples.classes[self.label]} away: "
            f"{self.counts(kinds)}; is it there when you predict? Else {cure}",
            wrong=wrong,
            examples=lines,
        )

    def counts(self, kinds: str) -> str:
        return f"in {self.inside} of its {self.size} {kinds} and {self.outside} of {self.others} others"


def clues(counts: np.ndarray, sizes: np.ndarray) -> list[Clue]:
    """Return what nearly gives a class away, the best first.

    Args:
        counts: examples of each class that have each thing, int [classes, things].
        sizes: examples of each class, int [classes].
    """
    found: list[Clue] = []
    total, size_of_all, tried = counts.sum(0), int(sizes.sum()), counts.shape[1] * len(sizes)
    for label in np.flatnonzero((sizes >= FEWEST) & (size_of_all - sizes >= FEWEST)):
        inside, size, others = counts[label], int(sizes[label]), int(size_of_all - sizes[label])
        share, elsewhere = inside / size, (total - inside) / others
        precise = (share >= SHARE) & (share >= PRECISION * (share + elsewhere))
        likely = np.flatnonzero(precise | (0.5 + (share - elsewhere) / 2 >= NEARLY))
        chance = hypergeom.sf(inside[likely] - 1, size_of_all, total[likely], size) * tried
        found += [
            Clue(int(i), int(label), int(inside[i]), size, int(total[i] - inside[i]), others)
            for i in likely[chance <= CHANCE]
        ]
    return sorted(found, key=lambda clue: -clue.balanced_accuracy)
