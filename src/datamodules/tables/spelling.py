"""How the cells of a column are written: found in the training rows, kept in the run, applied to every other row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["number", "date", "category", "boolean", "name"]
"""Of a column. A name is a word that hardly any other row has, so it tells nothing of other rows."""


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """How numbers and dates are written as text."""

    decimal: str = "."
    """Decimal sign."""
    thousands: str = ""
    """Between groups of three digits; '' where there are none."""
    percent: bool = False
    """Whether each number has a percent sign; 12.3 % is the number 12.3."""
    date: str = ""
    """Format of dates, as of `strptime`; '' for ISO 8601."""
    missing: tuple[str, ...] = ()
    """Words of missing cells, besides ''; () for `words.MISSING`."""

    @property
    def is_plain(self) -> bool:
        """Whether numbers are as Python writes them."""
        return self.decimal == "." and not self.thousands and not self.percent

    @property
    def pattern(self) -> str:
        """Regular expression of a number, without its percent sign."""
        point, group = (f"[{sign}]" for sign in (self.decimal, self.thousands))
        plain = rf"(\d+{point}?\d*|{point}\d+)([eE][+-]?\d+)?"
        grouped = rf"|[1-9]\d{{0,2}}({group}\d{{3}})+({point}\d*)?" if self.thousands else ""
        return rf"^[+-]?({plain}{grouped})$"

    def __str__(self) -> str:
        """Return what is not plain: 'decimal comma, thousands .', 'day first'; '' where all is."""
        named = {" ": "blanks", ",": "commas", ".": "points", "'": "apostrophes"}
        parts = ["decimal comma"] if self.decimal == "," else []
        parts += [f"{named[self.thousands]} between thousands"] if self.thousands else []
        parts += ["percent"] if self.percent else []
        if self.date:
            day, month = self.date.find("%d"), max(self.date.find(f"%{m}") for m in "mbB")
            parts.append("day first" if 0 <= day < month and "%m" in self.date else self.date)
        return ", ".join(parts)


PLAIN = Spelling()
NUMBERS = tuple(Spelling(decimal=d, thousands=t) for d, t in (
    (".", ""), (",", ""), (".", ","), (".", " "), (".", "'"), (",", "."), (",", " "), (",", "'"),
))  # fmt: skip
"""Ways to write numbers; of those that fit alike, the first."""
DAYS = ("%d/%m/%Y", "%d-%m-%Y", "%d.%m.%Y", "%d %m %Y", "%d/%m/%y", "%d-%m-%y", "%d.%m.%y")
MONTHS = ("%m/%d/%Y", "%m-%d-%Y", "%m/%d/%y", "%m-%d-%y")
NAMED = tuple(
    form.replace("%b", month)
    for form in ("%d %b %Y", "%d-%b-%Y", "%d. %b %Y", "%b %d, %Y", "%b %d %Y", "%d-%b-%y", "%d %b %y")
    for month in ("%b", "%B")
)
YEARS = ("%Y/%m/%d", "%Y.%m.%d")
TIMES = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
DATES = tuple(f"{day}{time}" for time in TIMES for day in (*YEARS, *DAYS, *MONTHS, *NAMED))
"""Ways to write dates other than ISO 8601."""
