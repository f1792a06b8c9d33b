"""The bodies of requests: bounded in bytes, in time, and all together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from starlette.types import Receive, Send

from src.deploy.server.flags import MIB
from src.deploy.server.refused import Refused, busy

AT_ONCE = 4
"""Largest bodies that may be in memory at a time; many more small ones."""
LINGER_S = 5.0
"""Seconds in which what a refused client still sends is thrown away, so that it can read why."""


class Bodies:
    """Reads bodies, and knows how many bytes of them are in memory.

    Args:
        max_bytes: of one.
        seconds: in which one must be there.
    """

    def __init__(self, max_bytes: int, seconds: float) -> None:
        self.max_bytes, self.seconds = max_bytes, seconds
        self.budget = AT_ONCE * max(max_bytes, 16 * MIB)
        self.held = 0

    @contextmanager
    def reading(self) -> Iterator[Body]:
        """Yield a body to read; its bytes count until the end of `with`."""
        body = Body(self)
        try:
            yield body
        finally:
            self.held -= body.held

    def too_large(self) -> Refused:
        return Refused(413, f"the body is larger than {self.max_bytes / MIB:g} MiB. Send less at once, or --max-body.")


class Body:
    """The body of one request."""

    def __init__(self, bodies: Bodies) -> None:
        self.bodies, self.held = bodies, 0

    async def read(self, headers: Mapping[str, str], receive: Receive) -> bytes:
        """Return the body.

        Raises:
            Refused: too large, too slow, compressed, empty or of no known length; or there are too many at a time.
        """
        if (coding := headers.get("content-encoding", "identity").strip().lower()) not in ("identity", ""):
            raise Refused(415, f"content-encoding {coding}: send the body as it is.", {"accept-encoding": "identity"})
        length = headers.get("content-length")
        if length is None and "transfer-encoding" not in headers:
            raise Refused(411, "no Content-Length, and not chunked. Send a body, with its length.")
        if length is not None and int(length) > self.bodies.max_bytes:
            raise self.bodies.too_large()
        try:
            async with asyncio.timeout(self.bodies.seconds):
                contents = await self._all(receive)
        except TimeoutError:
            raise Refused(408, f"the body was not there within {self.bodies.seconds:g} seconds.") from None
        if not contents:
            raise Refused(422, "the body is empty.")
        return contents

    async def _all(self, receive: Receive) -> bytes:
        parts = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Refused(400, "the client went away.")
            part: bytes = message.get("body", b"")
            self.held += len(part)
            self.bodies.held += len(part)
            if self.held > self.bodies.max_bytes:
                raise self.bodies.too_large()
            if self.bodies.held > self.bodies.budget:
                raise busy("too many large bodies at a time.")
            if not parts and not message.get("more_body"):
                return part
            parts += part
            if not message.get("more_body"):
                return bytes(parts)


async def linger(receive: Receive, send: Send, seconds: float) -> None:
    """End an answer that was given before the body was read: throw the rest away first, for at most so long.

    Without this the kernel would reset the connection, and the client might lose the answer.
    """
    try:
        async with asyncio.timeout(min(seconds, LINGER_S)):
            while (message := await receive())["type"] == "http.request" and message.get("more_body"):
                pass
    except TimeoutError:
        pass
    await send({"type": "http.response.body"})
