"""Parses the body of a request into inputs of the model."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from src.configs.errors import InputError
from src.configs.table import Csv
from src.datamodules.json_lines import as_written
from src.datamodules.tables.cells import text_of
from src.datamodules.tables.table_files import read_csv
from src.deploy.server.model import Item, Model
from src.deploy.server.refused import Refused

MAX_INPUTS = 100_000
"""Inputs of a request; JSON of few bytes can hold very many."""
MAX_FILES = 1000
TYPES = {
    "image": "image/*, application/octet-stream or multipart/form-data",
    "text": "application/json, text/plain, text/csv or multipart/form-data",
    "table": "application/json, text/csv or multipart/form-data",
}
"""Kind of input -> content types that carry it."""
CHARSETS = ("utf-8", "utf8", "ascii", "us-ascii", "iso-8859-1", "latin-1", "latin1", "windows-1252", "cp1252")
"""Charsets of texts. Python has more codecs; some take quadratic time, and each name asked for stays in memory."""


class ParsedRequest(NamedTuple):
    """The inputs of a request."""

    items: list[Item]
    single: bool
    """One answer, not a list of them, is expected."""


def parse_request(model: Model, headers: Headers, body: bytes, form: FormData | None = None) -> ParsedRequest:
    """Return the inputs of a body. A single input that cannot be computed refuses the request.

    Args:
        model: they are for.
        headers: of the request.
        body: its whole body.
        form: the same, as `parse_form` has read it.

    Raises:
        Refused: malformed, of another content type, empty, or with more inputs than may be.
    """
    kind, charset = content_type(headers)
    if form is not None:
        raw, single = _of_form(model, form)
    elif model.kind == "image" and (kind.startswith("image/") or kind in ("application/octet-stream", "")):
        raw, single = [body], True
    elif model.kind != "image" and kind == "text/csv":
        raw, single = inputs_of_csv(model, body), False
    elif model.kind == "text" and kind == "text/plain":
        raw, single = [decode_text(body, charset)], True
    elif model.kind != "image" and (kind in ("application/json", "") or _typed_by_hand(kind, body)):
        raw, single = inputs_of_json(model, body)
    else:
        raise Refused(415, f"content type {kind or '(none)'}: {model.name} takes {TYPES[model.kind]}.")
    if not raw:
        raise Refused(422, f"no input. Send {model.wanted}.")
    require_few(len(raw))
    return ParsedRequest([model.item(one) for one in raw], single)


def content_type(headers: Headers) -> tuple[str, str]:
    """Return the content type of a request, in small letters, and its charset, utf-8 unless told.

    Raises:
        Refused: it is malformed.
    """
    given = headers.get("content-type", "").strip()
    kind = given.partition(";")[0].strip().lower()
    if given and not all(kind.partition("/")):
        raise Refused(415, f"content type {given[:100]}: malformed. One is written as application/json.")
    _, parameters = parse_options_header(given)
    return kind, parameters.get(b"charset", b"utf-8").decode("latin-1").lower()


def require_few(inputs: int) -> None:
    """Raise `Refused` where a request has too many inputs."""
    if inputs > MAX_INPUTS:
        raise Refused(413, f"more than {MAX_INPUTS:,} inputs. Send fewer at once.")


def _typed_by_hand(kind: str, body: bytes) -> bool:
    """Return whether `curl -d` sent JSON; its content type says a form."""
    return kind == "application/x-www-form-urlencoded" and body.lstrip()[:1] in (b"{", b"[")


def inputs_of_json(model: Model, body: bytes) -> tuple[list[Any], bool]:
    """Return the texts or rows of JSON, and whether it is a single one."""
    inputs = parse_json(body, as_written if model.kind == "table" else strict_json)
    return (inputs, False) if isinstance(inputs, list) else ([inputs], True)


def parse_json(body: bytes, parse: Callable[[str], Any]) -> Any:
    """Return what JSON says.

    Raises:
        Refused: it is malformed, or holds more objects and lists than may be.
    """
    if body.count(b"{") + body.count(b"[") > MAX_INPUTS:
        raise Refused(413, f"more than {MAX_INPUTS:,} objects and lists. Send fewer at once.")
    try:
        return parse(body.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise Refused(400, f"no UTF-8 (byte {error.start}).") from None
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"malformed JSON: {error}.") from None


def strict_json(text: str) -> Any:
    """Return JSON as RFC 8259 has it: no NaN, no key twice."""
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    merged = dict(pairs)
    if len(merged) < len(pairs):
        raise ValueError("an object has a key twice")
    return merged


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def inputs_of_csv(model: Model, body: bytes) -> list[Any]:
    """Return the rows of a CSV as objects, or its texts."""
    how = getattr(model.exported.preparations[0], "csv", Csv())
    try:
        table = read_csv(io.BytesIO(body), Path("the body"), how, [])
    except InputError as error:
        raise Refused(422, str(error)) from None
    except (csv.Error, pa.ArrowException, ValueError) as error:  # bytes that no reader of CSV foresees
        raise Refused(422, f"no CSV: {error}.") from None
    require_few(len(table))  # each becomes an object of Python
    if model.kind == "table":
        return table.to_pylist()
    for column in model.text_columns:
        if column in table.column_names:
            return text_of(table[column]).to_pylist()
    raise Refused(422, f"no column {' or '.join(model.text_columns)}. There: {', '.join(table.column_names)}.")


def decode_text(contents: bytes, charset: str = "utf-8") -> str:
    """Return a text.

    Raises:
        Refused: it is in another encoding, or in none that is read.
    """
    _require_charset(charset)
    try:
        return contents.decode(charset)
    except UnicodeDecodeError as error:
        raise Refused(422, f"no text in {charset} ({error}). Send UTF-8.") from None


def _require_charset(charset: str) -> None:
    if charset not in CHARSETS:
        raise Refused(422, f"charset {json.dumps(charset[:40])}: not read. Send UTF-8.")


async def parse_form(headers: Headers, body: bytes) -> FormData | None:
    """Return the form that a body is, None where it is none.

    Raises:
        Refused: it is malformed, or has more than 1000 files or fields.
    """
    kind, charset = content_type(headers)
    if kind != "multipart/form-data":
        return None
    _require_charset(charset)  # the parser would take any

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    size = len(body) + 1  # the body is in memory, and bounded, already
    try:
        parser = MultiPartParser(headers, stream(), max_files=MAX_FILES, max_fields=MAX_FILES, max_part_size=size)
        parser.spool_max_size = size
        return await parser.parse()
    except (MultiPartException, KeyError, UnicodeError, ValueError) as error:
        raise Refused(400, f"malformed multipart/form-data: {error}.") from None


def _of_form(model: Model, form: FormData) -> tuple[list[Any], bool]:
    """Return the files of a form: images, texts or tables; a field that is no file is a text."""
    parts = form.multi_items()
    inputs: list[Any] = []
    single = len(parts) == 1 and model.kind != "table"
    for name, part in parts:
        if isinstance(part, UploadFile):
            rows = model.kind == "table" or (model.kind == "text" and _is_csv(part))
            inputs += inputs_of_csv(model, part.file.read()) if rows else [_one(model, part.file.read())]
            single = single and not rows
            require_few(len(inputs))
        elif model.kind == "text":
            inputs.append(part)
        else:
            raise Refused(422, f"field {json.dumps(name)} is no file. curl sends one with -F {'file=@...'}")
    return inputs, single


def _is_csv(file: UploadFile) -> bool:
    return (file.content_type or "").lower().startswith("text/csv") or (file.filename or "").lower().endswith(".csv")


def _one(model: Model, contents: bytes) -> str | bytes:
    return contents if model.kind == "image" else decode_text(contents)
