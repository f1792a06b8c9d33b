"""Is a download worth trying? Answered in seconds, because the downloaders themselves may wait for minutes."""

from __future__ import annotations

import functools
import urllib.error
import urllib.request


@functools.cache
def reachable(url: str, timeout: float = 3.0) -> bool:
    """Return whether the server of `url` answers within `timeout` seconds, be it with an error; proxies are used."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=timeout):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False
