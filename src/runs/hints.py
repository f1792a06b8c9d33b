"""What a finished run could do better, by flags that it has: what its summary notes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from src.configs import shown

MUCH_WAITING = 0.2
"""Share of the training's time above which waiting for data is worth a line."""
LAST_SHOWN = 3
"""Values of an improving metric that are kept and shown."""
LATE = 4
"""Of so many parts of the validations the last is looked at; at least one validation."""
SHARE = 0.1
"""Of all the run's improvement, and of all that could still be gained, so much has to fall into that part."""
OF_TWO = 0.25
"""Share of what could still be gained that the second of only two validations has to gain."""
SURE = 2.0
"""Standard errors of the score that the gain has to exceed."""


def of(record: Mapping[str, Any]) -> list[str]:
    """Return a line for each thing that is worth one."""
    found: list[str] = []
    if record.get("time", {}).get("data", 0.0) > MUCH_WAITING:
        found.append(faster_data(record))
    if "still_improving" in record:
        found.append(longer(record))
    return found


def longer(record: Mapping[str, Any]) -> str:
    """Return that the training was too short, and the flag for one of twice as many epochs."""
    values = ", ".join(map(shown.metric, record["still_improving"]))
    epochs = 2 * record["fields"]["max_epochs"]
    name = record["best"]["name"]
    return f"{name} was still improving when training ended ({values}): --max-epochs {epochs} may do better"


def still_improving(values: Sequence[float], mode: Literal["min", "max"], examples: int) -> bool:
    """Return whether a metric was clearly still improving at its last validation.

    The last value has to be the best, and to have gained enough over the best before the last quarter of the
    validations: more than chance explains, a tenth of what the whole run has gained, and a tenth of what there was
    still to gain. A rate that falls to zero leaves tiny gains at the end, and those are none of that.

    Args:
        values: of each validation, in their order.
        mode: whether less or more is better. A score that is to be high is taken to be 1 at the most, an error to be
            0 at the least.
        examples: of a validation; so many make the standard error of a share, which every high score is taken for.
    """
    if len(values) < 2 or not math.isfinite(values[-1]):
        return False
    known = [-value if mode == "min" else value for value in values if math.isfinite(value)]
    last, late = known[-1], max(1, len(known) // LATE)
    if len(known) < 2 or last <= max(known[:-1]):
        return False
    before = max(known[:-late])
    gain, room = last - before, (0.0 if mode == "min" else 1.0) - before
    enough = max(SHARE * (last - known[0]), (SHARE if len(known) > 2 else OF_TWO) * room)
    if mode == "max" and examples:
        share = min(1.0, max(0.0, before))
        enough = max(enough, SURE * math.sqrt(share * (1 - share) / examples))
    return gain > enough


def faster_data(record: Mapping[str, Any]) -> str:
    """Return how a run that waits for its data can wait less, by flags that it has."""
    fields = record["fields"]
    workers = fields["num_workers"] or 0
    auto = fields["num_workers"] is None and not record["device"].startswith("cpu")  # as many as the cores, or 8
    ways = [f"more workers (--num-workers{'' if auto else f' {max(2, 2 * workers)}'})"]
    if "image_size" in fields:
        smaller = fields["image_size"] * 3 // 4
        ways += [f"smaller images (--image-size {smaller})", "LEYDEN_CACHE on a fast disk with room for all images"]
    if "max_length" in fields.get("prep", {}):
        ways.append(f"shorter texts (--prep.max-length {fields['prep']['max_length'] * 3 // 4})")
    return f"{record['time']['data']:.0%} of the training was waiting for data; try {', '.join(ways)}"
