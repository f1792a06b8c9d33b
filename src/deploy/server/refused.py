"""What the server says to requests that it cannot answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response


class Refused(HTTPException):
    """A request that is not answered: its status, what is wrong and what would be right, headers of the answer."""


def busy(why: str) -> Refused:
    """Return the refusal of a request that may come again in a second."""
    return Refused(503, why, {"retry-after": "1"})


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer of JSON; letters stay as they are."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Response(text.encode(errors="replace"), status, headers, "application/json")
