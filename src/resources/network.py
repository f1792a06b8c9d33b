"""Downloads: whether one is worth trying, and files that are fetched once."""

from __future__ import annotations

import functools
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from src.configs.errors import InputError
from src.resources.cache import once, there


@functools.cache
def reachable(url: str, timeout: float = 3.0) -> bool:
    """Return whether the server of `url` answers within `timeout` seconds, be it with an error; proxies are used.

    The downloaders themselves may wait for minutes.
    """
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=timeout):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False


def download_once(
    path: Path, name: str, fetch: Callable[[Path], Path], *, detail: str, source: str, instead: str
) -> Path:
    """Return a file or folder of the cache, downloaded if it is not there: whole or not at all, by one process.

    Args:
        path: below `cache_dir()`.
        name: of the data set, for the announcement and the error.
        fetch: downloads into an empty folder, and returns what of it becomes `path`.
        detail: of what size it is or where it comes from, after the name: ', 12 MB,'.
        source: the source, as `--source` calls it.
        instead: what else the user can do, after 'Try again, '.

    Raises:
        InputError: the download broke off.
    """

    def fill(part: Path) -> Path:
        print(f"data       downloading {name}{detail} to {path}", flush=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
            try:
                fetched = fetch(Path(folder))
            except Exception as error:  # urllib, httpx, torchvision, datasets and sklearn have dozens of kinds
                raise InputError(
                    f"--source {source}: the download of {name} broke off ({error}). Try again, {instead}."
                ) from error
            fetched.rename(part)
        return path

    return once(path, there, fill)
