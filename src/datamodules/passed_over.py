"""Files and folders that hold no data: hidden ones, and what systems leave. They are passed over, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from src.resources.files import printable

FILES_OF_SYSTEMS = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", ".ds_store", ".directory"}
"""Files that Windows, macOS and KDE write into folders of images, in lower case."""
FOLDERS_OF_SYSTEMS = {
    "@eadir",
    "__macosx",
    "__pycache__",
    "lost+found",
    "#recycle",
    "$recycle.bin",
    "system volume information",
    ".ipynb_checkpoints",
    ".spotlight-v100",
    ".trashes",
    ".fseventsd",
    ".@__thumb",
}
"""Folders that storage boxes, archives, notebooks and file systems leave, in lower case; as Synology's thumbnails."""
NO_DATA = FILES_OF_SYSTEMS | FOLDERS_OF_SYSTEMS
KINDS = ("folder* that systems leave", "file* that systems leave", "hidden folder*", "hidden file*")
"""What is passed over, in the order of the note."""
SHOWN = 5
"""Names that a note has of each kind."""


def holds_no_data(name: str) -> bool:
    """Return whether a file or folder is passed over, by its name."""
    return name.startswith(".") or name.lower() in NO_DATA


class PassedOver:
    """What was passed over in a folder of data."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        """(what it is, name) -> how many."""

    def add(self, name: str, *, is_folder: bool) -> None:
        of_system = FOLDERS_OF_SYSTEMS if is_folder else FILES_OF_SYSTEMS
        known = name.lower() in of_system or (not is_folder and name.startswith("._"))  # of an archive made by macOS
        what = "folder" if is_folder else "file"
        self.counts[f"{what}* that systems leave" if known else f"hidden {what}*", name.strip()] += 1

    def notes(self) -> list[str]:
        """Return one note with the numbers and some names, or [] where nothing was passed over."""
        parts = []
        for kind in KINDS:
            names = {name: count for (of, name), count in sorted(self.counts.items()) if of == kind}
            if not (total := sum(names.values())):
                continue
            parts.append(f"{total} {kind.replace('*', 's' if total > 1 else '')} ({some_names(names)})")
        return [f"passed over: {', '.join(parts)}"] if parts else []


def some_names(names: Iterable[str]) -> str:
    """Return the first names, and how many more there are."""
    there = list(names)
    more = f" and {len(there) - SHOWN} more" if len(there) > SHOWN else ""
    return f"{', '.join(map(printable, there[:SHOWN]))}{more}"
