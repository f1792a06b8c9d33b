"""Files that are written whole or not at all, and names of files that can be printed."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def atomic_write(path: Path, data: bytes | str | Iterator[bytes]) -> None:
    """Write a file so that a reader, a crash or a full disk never sees half of it: temporary sibling, fsync, rename."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        if isinstance(data, Iterator):
            file.writelines(data)
        else:
            file.write(data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path` to write to; it takes the name `path` on success and goes away on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # mkstemp's 0600 would lock colleagues out of a shared disk
        temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a write that fails does not know
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what `replacing` has left in a folder where its process was killed. Nobody else may be writing there."""
    for left in folder.glob(".*-????????"):
        if left.is_file():
            left.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def printable(path: Path | str) -> str:
    r"""Return a path as text that can be printed and written: a byte that is not UTF-8 becomes `\xe9`."""
    if isinstance(path, str) and path.isascii():
        return path  # itself: of a million names there are no copies
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def as_on_disk(name: str) -> str:
    """Return a file's name from a text as Python calls the file: under an ASCII locale its bytes become surrogates."""
    return name if name.isascii() else os.fsdecode(name.encode("utf-8", "surrogateescape"))


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON; a path's bytes that are not UTF-8 become escapes, and are read back as the same path."""
    encoder = json.JSONEncoder(indent=1, ensure_ascii=False, default=str)
    parts = itertools.chain(encoder.iterencode(value), "\n")  # a million names would be a long text
    atomic_write(path, (part.encode("utf-8", "backslashreplace") for part in parts))


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
