"""Downloads: whether one is worth trying, and files that are fetched once."""

from __future__ import annotations

import functools
import http.client
import shutil
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from src.configs.errors import InputError
from src.resources.cache import once, there
from src.terminal import console

PATIENCE = 3.0
"""Seconds that a process waits for servers, all of them together, before it does without."""
waited = 0.0
"""Of these, what is gone."""


@functools.cache
def reachable(url: str) -> bool:
    """Return whether the server of `url` answers, be it with an error; proxies are used.

    All questions of a process have `PATIENCE` seconds together, then the answer is no. The downloaders themselves may
    wait for minutes. A timeout of the connection would not do: it begins anew with each byte.
    """
    global waited
    answers: list[bool] = []
    left = PATIENCE - waited
    if left <= 0:
        return False
    asked = time.monotonic()
    asking = threading.Thread(target=lambda: answers.append(_answers(url)), name=f"HEAD {url}", daemon=True)
    asking.start()
    asking.join(left)
    waited += time.monotonic() - asked
    return answers == [True]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PATIENCE):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError, http.client.HTTPException):
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
        console.line("data", f"downloading {name}{detail} to {path}")
        for left in path.parent.glob(f".{path.name}-????????"):  # of a process that was killed
            shutil.rmtree(left, ignore_errors=True)
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
