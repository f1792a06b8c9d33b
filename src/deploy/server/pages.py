"""The pages: each one file without anything from the network."""

from __future__ import annotations

import functools
from pathlib import Path

from starlette.responses import Response

PAGE, DOCS = "page.html", "docs.html"
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src blob: data:; connect-src 'self'"
)
HEADERS = {"content-security-policy": POLICY + "; base-uri 'none'; frame-ancestors 'none'", "cache-control": "no-cache"}


@functools.cache
def _contents(name: str) -> bytes:
    return (Path(__file__).parent / name).read_bytes()


def page(name: str) -> Response:
    """Return a page; what it shows it asks of the server itself."""
    return Response(_contents(name), headers=HEADERS, media_type="text/html")
