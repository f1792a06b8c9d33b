"""The time that a user gives."""

from __future__ import annotations

import math
import time


class Clock:
    """Says when a budget is spent.

    Args:
        budget: seconds; None for no limit.
    """

    def __init__(self, budget: float | None) -> None:
        self.began, self.budget = time.monotonic(), math.inf if budget is None else budget

    @property
    def spent(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began

    @property
    def over(self) -> str:
        """Why something was left out."""
        return f"the budget of {self.budget:g} s was spent"

    def is_up(self, share: float) -> bool:
        """Return whether a share of the budget is spent."""
        return self.spent >= share * self.budget

    def times(self, seconds: float, *, until: float) -> int | None:
        """Return how often what takes so many seconds can be done until a share of the budget is spent; None for no
        limit."""
        left = until * self.budget - self.spent
        return None if math.isinf(left) or seconds <= 0 else max(0, int(left / seconds))
