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

    def is_up(self, share: float) -> bool:
        """Return whether a share of the budget is spent."""
        return time.monotonic() - self.began >= share * self.budget
