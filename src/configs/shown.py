"""How numbers are written for people to read."""

from __future__ import annotations

import math


def metric(value: float) -> str:
    """Return a metric with four decimals; a smaller one with three digits, so that it never reads as 0."""
    return f"{value:.4f}" if value == 0 or not abs(value) < 1e-3 else f"{value:.3g}"


def apart(target: float, prediction: float) -> tuple[str, str]:
    """Return both with at least six digits, and as many as show the first three of their difference."""
    size, difference = max(abs(target), abs(prediction)), abs(target - prediction)
    more = math.log10(size / difference) if difference and math.isfinite(size / difference) else 0
    digits = max(6, 3 + math.ceil(more))
    return f"{target:.{digits}g}", f"{prediction:.{digits}g}"
