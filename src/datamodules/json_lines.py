"""Files of one JSON object a line, read row by row. Every error names its line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from src.configs.errors import InputError
from src.datamodules.row_files import clean, decoded_lines

LINES = (".jsonl", ".ndjson", ".json")


def _constant(text: str) -> str | None:
    return None if text == "NaN" else text


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    row = {clean(key): str(value).lower() if isinstance(value, bool) else value for key, value in pairs}
    if len(row) < len(pairs):
        twice = next(key for key, count in Counter(clean(key) for key, _ in pairs).items() if count > 1)
        raise ValueError(f"two keys are called {twice}")
    return row


def as_written(text: str | bytes) -> Any:
    """Return JSON whose numbers and truth values are strings, spelled as in the text; NaN is null.

    Raises:
        ValueError: it is no JSON, or an object has one key twice.
        RecursionError: it is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_object, parse_float=str, parse_int=str, parse_constant=_constant)


def json_rows(file: IO[bytes], path: Path) -> Iterator[dict[str, Any]]:
    """Yield the object of each line; numbers and truth values are strings, spelled as in the file.

    Raises:
        InputError: a line that is no object; it is named.
    """
    for number, line in enumerate(decoded_lines(file, path), 1):
        if not line.strip():
            continue
        try:
            row = as_written(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}, line {number}: no JSON ({error}). One object a line.") from None
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number}: {type(row).__name__}, but one object a line is expected.")
        yield row
