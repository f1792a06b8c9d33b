"""The column of a table that names its rows."""

from __future__ import annotations

from collections.abc import Iterable


def id_column(names: Iterable[str]) -> str:
    """Return the column called id, in capitals or not; '' where there is none. Of several, `id` itself comes first."""
    return min((name for name in names if name.lower() == "id"), key=lambda name: name != "id", default="")
