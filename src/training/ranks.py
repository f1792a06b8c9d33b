"""Which process of a distributed run this is."""

from __future__ import annotations

import os

from lightning.pytorch.utilities import rank_zero_only


def is_rank_zero() -> bool:
    """Return whether this process writes: the others of a distributed run write nothing.

    NODE_RANK is of Lightning's own launch over several machines.
    """
    return getattr(rank_zero_only, "rank", 0) == 0 and os.environ.get("NODE_RANK", "0") == "0"
