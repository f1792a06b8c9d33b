"""Numbers as a person reads them."""

from __future__ import annotations

import math

from src.configs.labels import is_number

MINUS = "\N{MINUS SIGN}"
DIGITS = 4
"""That are significant in a cell."""


def number(value: float) -> str:
    """Return a number with as many digits as a person reads; whole thousands are set apart."""
    if not math.isfinite(value):
        return "not known"
    digits = 6 if 0.999 <= abs(value) < 1 else 3  # 0.9999 is not 1
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"


def alike(*values: float) -> list[str]:
    """Return numbers with the same decimals: two, and more where the largest would have less than two digits."""
    largest = max(map(abs, values))
    decimals = max(2, 1 - math.floor(math.log10(largest))) if 0 < largest < math.inf else 2
    return [f"{round(value, decimals) + 0.0:.{decimals}f}" for value in values]  # + 0.0: no minus before 0


def signed(value: float) -> str:
    """Return a number with its sign, minus as in print."""
    shown = number(abs(value))
    if not math.isfinite(value) or float(shown.replace(",", "")) == 0:
        return shown
    return f"+{shown}" if value > 0 else f"{MINUS}{shown}"


def percent(share: float) -> str:
    """Return a share as a percentage that is never rounded to none or all."""
    if not math.isfinite(share):
        return "not known"
    if 0 < share < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if 0.999 < share < 1 else f"{100 * share:.1f} %"


def cell(text: str) -> str:
    """Return a cell as a person reads it: a number with a fraction has 4 significant digits, and all its whole ones."""
    if not is_number(text) or "." not in text:
        return text
    digits = "".join(filter(str.isdigit, text.lower().partition("e")[0])).lstrip("0")
    if len(digits) <= DIGITS:
        return text
    value = float(text)
    return f"{value:.0f}" if abs(value) >= 10 ** (DIGITS - 1) else f"{value:.{DIGITS}g}"


def effect(unit: str) -> str:
    """Return what a value is, such as 'effect on the probability', by the unit of `Explanations`; '' for none."""
    if not unit:
        return ""
    if unit in ("probability", "log-odds", "raw score of the class"):
        return f"effect on the {unit}"
    return f"effect in {unit}"
