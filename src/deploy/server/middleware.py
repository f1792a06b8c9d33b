"""What is around each request: the token, the log, the metrics, errors as JSON, and the end of a connection."""

from __future__ import annotations

import hmac
import logging
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from src.deploy.server.bodies import linger
from src.deploy.server.refused import Refused, json_response
from src.deploy.server.service import Service

OPEN = ("/", "/docs", "/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready")
"""Addresses that need no token: probes, and pages that hold nothing themselves."""
ROUTE, INPUTS = "leyden.route", "leyden.inputs"
"""Keys of a scope: the address as it is written in `app`, and how many inputs the request had."""
log = logging.getLogger("leyden.server")


class Middleware:
    """The application, and what each request needs around it."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service
        token = service.flags.token
        self.authorization = f"Bearer {token}".encode() if token else b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        began, status, body_read = time.perf_counter(), 0, scope["method"] not in ("POST", "PUT", "PATCH")

        async def receive_(_: object = None) -> Message:
            nonlocal body_read
            message = await receive()
            body_read = body_read or not message.get("more_body")
            return message

        async def send_(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self.service.draining or not body_read:
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
                await send(message)
            elif body_read or message.get("more_body"):
                await send(message)
            else:
                await send({**message, "more_body": True})
                await linger(receive, send, self.service.flags.timeout)

        try:
            self._require_token(scope)
            await self.app(scope, receive_, send_)
        except Refused as refused:
            await json_response({"error": refused.detail}, refused.status_code, refused.headers)(scope, receive_, send_)
        except Exception:  # Starlette has answered it
            log.exception("failed", extra={"fields": {"path": scope["path"]}})
        finally:
            self._note(scope, status, time.perf_counter() - began)

    def _require_token(self, scope: Scope) -> None:
        if not self.authorization or scope["path"] in OPEN:
            return
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        if not hmac.compare_digest(given, self.authorization):
            why = "another token is needed" if given else "a token is needed"
            raise Refused(401, f"{why}: Authorization: Bearer ...", {"www-authenticate": "Bearer"})

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        metrics, path = self.service.metrics, scope.get(ROUTE, "other")
        metrics.requests.labels(path, str(status)).inc()
        metrics.seconds.labels(path).observe(seconds)
        if not self.service.flags.no_access_log:
            client = (scope.get("client") or ("",))[0]
            fields: dict[str, Any] = {
                "client": client,
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "ms": round(seconds * 1e3, 2),
            }
            if INPUTS in scope:
                fields["inputs"] = scope[INPUTS]
            log.info("request", extra={"fields": fields})
