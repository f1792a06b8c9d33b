"""The pages: each one file without anything from the network."""

from __future__ import annotations

from pathlib import Path

from starlette.responses import FileResponse

PAGE, DOCS = "page.html", "docs.html"
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src blob: data:; connect-src 'self'"
)
HEADERS = {"content-security-policy": POLICY + "; base-uri 'none'; frame-ancestors 'none'", "cache-control": "no-cache"}


def page(name: str) -> FileResponse:
    """Return a page; what it shows it asks of the server itself."""
    return FileResponse(Path(__file__).parent / name, headers=HEADERS)
