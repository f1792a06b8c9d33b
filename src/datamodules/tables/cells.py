"""The cells of a column as text, from any type of Arrow."""

# pyright: reportAttributeAccessIssue=false
# pyarrow makes its functions when it is imported.
from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc


def is_text(column: pa.ChunkedArray) -> bool:
    return pa.types.is_string(column.type)


def text_of(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column as strings without blanks around them, in one normal form; '' for missing ones."""
    if not is_text(column):
        return _typed_text(column)
    column = pc.fill_null(pc.utf8_trim_whitespace(column), "")
    return column if pc.all(pc.string_is_ascii(column)).as_py() in (True, None) else pc.utf8_normalize(column, "NFC")


def _typed_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return numbers, truth values and times as Python writes them: a million cells have few distinct values."""
    encoded = column.combine_chunks().dictionary_encode()
    values = encoded.dictionary
    if pa.types.is_floating(values.type):
        words = [str(value) for value in values.to_numpy(zero_copy_only=False)]
    else:
        words = [str(value) for value in values.to_pylist()]
    found = pa.array(words, pa.string()).take(encoded.indices)
    missing = pc.is_null(column.combine_chunks(), nan_is_null=True)
    return pa.chunked_array([pc.if_else(missing, "", found)])


def words(column: pa.ChunkedArray) -> list[str]:
    """Return the cells as text, '' for missing ones."""
    return text_of(column).to_pylist()
