"""Words that mean the same, however two files spell them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

TRUE, FALSE = {"true", "t", "yes", "y", "on"}, {"false", "f", "no", "n", "off"}
"""Words for the two truth values, in lower case."""
MISSING = {
    *("", "na", "n/a", "#n/a", "#n/a n/a", "#na", "<na>", "nan", "-nan", "nat", "null", "none", "nil"),
    *("?", "-", "--", "."),
    *("1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan", "#value!", "#div/0!", "#ref!", "#num!", "#name?"),
}
"""Words that stand for a missing number or date, in lower case: those of pandas, R, SQL and Excel."""
WHOLE = re.compile(r"^([+-]?\d+)\.0*$")


def word(value: object) -> str:
    """Return a value as text; '' for None and NaN."""
    return "" if value is None or value != value else str(value).strip()


def truth(text: str) -> str:
    """Return 'true' or 'false' for words that say so, and for 1 and 0; any other word as it is."""
    folded = text.casefold()
    if folded in TRUE or folded in ("1", "1.0"):
        return "true"
    return "false" if folded in FALSE or folded in ("0", "0.0") else text


def respell(words: Iterable[str], known: Sequence[str]) -> dict[str, str]:
    """Return for each word how `known` spells it: 1 as 1.0, TRUE as true; itself where that is not known, or unclear.

    A file with an empty cell holds 1.0 where another holds 1, and every program has its own truth values.
    """
    words, there = {*words}, {*known}
    if words <= there:
        return dict(zip(words, words, strict=True))
    spelled: dict[str, str] = {}
    counts = Counter(map(_meaning, there))
    of_meaning = {_meaning(one): one for one in there if counts[_meaning(one)] == 1}
    for text in words:
        spelled[text] = text if text in there else of_meaning.get(_meaning(text), text)
    return spelled


def _meaning(text: str) -> str:
    if whole := WHOLE.match(text):
        return whole[1]
    folded = text.casefold()
    return folded if folded in ("true", "false", "yes", "no") else text
