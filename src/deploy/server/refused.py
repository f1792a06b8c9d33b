"""What the server says to requests that it cannot answer."""

from __future__ import annotations

from collections.abc import Mapping


class Refused(Exception):
    """A request that is not answered, and why.

    Args:
        status: of HTTP.
        why: says what is wrong and what would be right.
        headers: of the answer.
    """

    def __init__(self, status: int, why: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(why)
        self.status, self.why, self.headers = status, why, dict(headers or {})


def busy(why: str) -> Refused:
    """Return the refusal of a request that may come again in a second."""
    return Refused(503, why, {"retry-after": "1"})
