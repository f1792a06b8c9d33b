"""Numbers as a person reads them."""

from __future__ import annotations

MINUS = "\N{MINUS SIGN}"


def number(value: float) -> str:
    """Return a number with as many digits as a person reads; whole thousands are set apart."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def signed(value: float) -> str:
    """Return a number with its sign, minus as in print."""
    shown = number(abs(value))
    if float(shown.replace(",", "")) == 0:
        return shown
    return f"+{shown}" if value > 0 else f"{MINUS}{shown}"


def percent(share: float) -> str:
    """Return a share as a percentage that is never rounded to none or all."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if 0.999 < share < 1 else f"{100 * share:.1f} %"
