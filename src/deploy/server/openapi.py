"""The description of the API, as OpenAPI 3.1 has it, for the model that is served."""

from __future__ import annotations

from typing import Any

from src.deploy.server.model import Model


def openapi(model: Model, token: bool) -> dict[str, Any]:
    return {}
