"""Is a download worth trying? Answered in seconds, because the downloaders themselves may wait for minutes."""

from __future__ import annotations

import functools
import socket
import urllib.parse
import urllib.request


@functools.cache
def reachable(url: str, timeout: float = 3.0) -> bool:
    """Return whether a TCP connection to the host of `url`, or to its proxy, opens within `timeout` seconds."""
    parts = urllib.parse.urlsplit(url)
    if proxy := urllib.request.getproxies().get(parts.scheme):
        parts = urllib.parse.urlsplit(proxy)
    try:
        port = parts.port or (80 if parts.scheme == "http" else 443)
        with socket.create_connection((parts.hostname or "", port), timeout=timeout):
            return True
    except OSError:
        return False
