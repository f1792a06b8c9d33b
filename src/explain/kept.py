"""What the checks of a run's explanations said, kept in the run for its model card: the latest of each method."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from src.configs.errors import InputError
from src.resources.files import write_json

FOLDER = "explanations"
"""Of a run."""
FILE = "checks.json"


@dataclass(frozen=True)
class Kept:
    """What the checks said of one method."""

    lines: list[str]
    warnings: list[str]
    examples: int = 0
    """Of the validation split, that were checked."""
    made: str = ""
    command: str = ""


def keep(run: Path, method: str, said: Kept) -> None:
    """Write what the checks said, in place of what they said of the same method before.

    Args:
        run: its directory.
        method: in words, with the target: 'Grad-CAM, layer4 (7 x 7), for the likeliest class'.
        said: by the checks.

    Raises:
        InputError: the file is there and damaged.
        OSError: it cannot be written.
    """
    before = {name: asdict(each) for name, each in read(run).items() if name != method}
    (run / FOLDER).mkdir(exist_ok=True)
    write_json(run / FOLDER / FILE, before | {method: asdict(said)})


def read(run: Path) -> dict[str, Kept]:
    """Return method -> what the checks said of it, the latest last; nothing where none was used.

    Raises:
        InputError: the file is damaged.
    """
    path = run / FOLDER / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {
            method: Kept(
                [*map(str, one["lines"])],
                [*map(str, one["warnings"])],
                int(one.get("examples", 0)),
                str(one.get("made", "")),
                str(one.get("command", "")),
            )
            for method, one in found.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: damaged ({error}). Remove it, and run scripts/explain.py again.") from error
