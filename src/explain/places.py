"""What a page or a card shows of paths: not the folders of this machine, which are nobody's business."""

from __future__ import annotations

import shlex
from pathlib import Path


def place_of(run: Path) -> Path:
    """Return a run's directory from here, or from the folder of all runs where that is elsewhere."""
    run, here = run.resolve(), Path.cwd().resolve()
    return run.relative_to(here) if run.is_relative_to(here) else Path(*run.parts[-3:])


def source_shown(source: str) -> str:
    """Return where data or weights came from: 'file /home/ada/texts.csv' becomes 'file texts.csv'."""
    kind, _, path = source.partition(" ")
    return f"{kind} {Path(path).name or path}" if kind in ("file", "folder") and path else source


def own_name(text: str) -> str:
    """Return the own name of an absolute path, and any other text as it is."""
    return Path(text).name or text if Path(text).is_absolute() else text


def command_shown(command: str, run: Path) -> str:
    """Return a command that explains a run; '' for one that no shell could read.

    The run and the script are named as from the folder of the checkout, other files by their own names.
    """
    try:
        words = shlex.split(command)
    except ValueError:
        return ""
    flags = [word.partition("=") if word.startswith("--") else ("", "", word) for word in words]
    return shlex.join(f"{flag}{equal}{_shown(value, run)}" if value else flag + equal for flag, equal, value in flags)


def _shown(word: str, run: Path) -> str:
    path = Path(word)
    if path.is_absolute() and path.resolve() == run.resolve():
        return str(place_of(run))
    return "/".join(path.parts[-2:]) if path.is_absolute() and path.parent.name == "scripts" else own_name(word)
