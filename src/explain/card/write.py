"""Writes the card of a run as Markdown with front matter, and as a page."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from src.configs.errors import InputError
from src.explain.card.blocks import Section
from src.explain.card.by_group import grouped
from src.explain.card.limits import warnings
from src.explain.card.metadata import metadata
from src.explain.card.reported import read
from src.explain.card.sections import sections
from src.resources.files import atomic_write
from src.resources.templates import environment
from src.runs import records
from src.terminal import console

MARKDOWN, PAGE = "card.md", "card.html"
SPECIAL = re.compile(r"[\\`*\[\]<|~]|\A[>#]|\A[+-](?= )|(?<![^\W_])_|_(?![^\W_])")
"""Characters that mean something in Markdown: some do at the start of a line alone, an underscore not within a word."""
SEAL = re.compile(r"<!-- scripts/card\.py wrote this: ([0-9a-f]{64}) -->\n\Z")


def write(
    run: Path, *, groups: Sequence[str] = (), out: Path | None = None, data_dir: Path | None = None
) -> tuple[Path, Path]:
    """Write `card.md` and `card.html` and return them.

    Args:
        run: that is done.
        groups: columns of the run's own table, whose groups get a score each; besides the column that the experiment
            groups its rows by.
        out: folder; without it the run directory.
        data_dir: where the run's data are now, if they have moved; only groups need them.

    Raises:
        InputError: as `read` and `grouped` raise, or the card cannot be written, or was edited since it was.
    """
    reported, folder = read(run), out or run
    require_unedited(folder / MARKDOWN)
    of_groups = grouped(reported, groups, data_dir)
    if (name := reported.group_column) and name not in groups:
        try:
            of_groups += grouped(reported, [name], data_dir)
        except InputError as error:  # nobody has asked for it
            console.line("NOTE", f"no scores by --columns.group: {error}")
    with records.explain_record_errors(run, reported.record):
        parts, loud, front = sections(reported, of_groups), warnings(reported), metadata(reported).to_yaml()
        title = reported.name if len(reported.members) > 1 else f"{reported.name}, seed {reported.record['seed']}"
    markdown = _templates(escape=False).get_template(MARKDOWN).render(title=title, warnings=loud, sections=parts)
    page = _templates(escape=True).get_template(PAGE).render(title=title, warnings=loud, sections=parts)
    try:
        atomic_write(folder / MARKDOWN, sealed(f"---\n{front}\n---\n\n{markdown}"))
        atomic_write(folder / PAGE, page)
    except OSError as error:
        raise InputError(f"--out {folder}: cannot be written ({error.strerror}). Name another folder.") from error
    for line in loud:
        console.line("NOTE", line)
    for path in (folder / MARKDOWN, folder / PAGE):
        console.line("card", str(path))
    return folder / MARKDOWN, folder / PAGE


def _templates(*, escape: bool) -> Environment:
    templates = environment(Path(__file__).parent, escape=escape)
    templates.filters |= {"plain": plain, "markup": Markup, "slug": slug}
    return templates


def plain(text: str) -> str:
    """Return text in a line that Markdown shows as it is."""
    return SPECIAL.sub(lambda found: f"\\{found[0]}", " ".join(text.split()))


def slug(section: Section) -> str:
    """Return an id for a section."""
    return re.sub(r"\W+", "-", section.title.lower()).strip("-")


def sealed(text: str) -> str:
    """Return text with a comment that tells whether it was edited since."""
    return f"{text.rstrip()}\n\n<!-- scripts/card.py wrote this: {_digest(text)} -->\n"


def require_unedited(path: Path) -> None:
    """Raise an InputError where a card is there that a person has edited."""
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    seal: Any = SEAL.search(text)
    if seal is None or seal[1] != _digest(text[: seal.start()]):
        raise InputError(f"{path}: was edited, and would be lost. Rename it, or name another folder with --out.")


def _digest(text: str) -> str:
    return hashlib.sha256(text.rstrip().encode("utf-8", "backslashreplace")).hexdigest()
