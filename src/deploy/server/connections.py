"""Connections: how long a client may take for its headers, and how a server ends them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import uvicorn
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from src.deploy.server.listener import let_no_more_in
from src.deploy.server.service import Service
from src.deploy.server.signals import ending_signals

MAX_HEAD = 2**19
"""Bytes of headers at which a connection is closed."""
KEEP_ALIVE_S = 75
"""Seconds that a connection may be without a request; more than proxies hold theirs, which then never meet a close."""
QUIET_S = 1.0
"""The same after SIGTERM."""
ACCEPT_S = 0.1
"""Seconds between the last connection that the kernel lets in and the end of listening, and again until all that were
accepted are known."""
CLOSE = b"connection: close\r\ncontent-length: 0\r\n\r\n"
GONE = "leyden.gone"
"""Key of a scope: a function that says whether the client has gone."""


class Connection(HttpToolsProtocol):
    """A connection whose client must send the headers of a request, and read its answers, in time."""

    seconds = 30.0
    """In which the headers must be there."""
    between = True
    """No request is being read."""
    ended = False
    """Nothing more is read."""
    head_bytes = 0
    head_timer: asyncio.TimerHandle | None = None
    unread_timer: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether no request is being read or answered."""
        return self.between and (self.cycle is None or self.cycle.response_complete)

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)  # `pause_writing` is then called for any unread byte
        self._await_head()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self.resume_writing()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        if self.ended:
            return None
        if self.head_timer:
            self.head_bytes += len(data)
            if self.head_bytes > MAX_HEAD:
                return self._end(b"HTTP/1.1 431 Request Header Fields Too Large\r\n" + CLOSE)
        super().data_received(data)
        if self.parser is not None and self.idle and not self.head_timer:  # blank lines, which begin no request
            self._await_head()
        return None

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        scope: Any = self.scope
        scope[GONE] = self.transport.is_closing
        self.between = False
        if not self.head_timer:
            self._await_head()

    @override
    def on_headers_complete(self) -> None:
        self._stop_timer()
        super().on_headers_complete()

    @override
    def on_message_complete(self) -> None:
        self.between = True
        super().on_message_complete()

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        self.unread_timer = self.loop.call_later(self.timeout_keep_alive, self.transport.abort)

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        if self.unread_timer:
            self.unread_timer.cancel()
            self.unread_timer = None

    @override
    def send_400_response(self, msg: str) -> None:
        if self._may_end():
            super().send_400_response(msg)

    def _await_head(self) -> None:
        self.head_bytes = 0
        self.head_timer = self.loop.call_later(self.seconds, self._too_slow)

    def _stop_timer(self) -> None:
        if self.head_timer:
            self.head_timer.cancel()
            self.head_timer = None

    def _too_slow(self) -> None:
        self._end(b"" if self.between else b"HTTP/1.1 408 Request Timeout\r\n" + CLOSE)

    def _end(self, answer: bytes) -> None:
        if self._may_end():
            self.transport.write(answer)
            self.transport.close()

    def _may_end(self) -> bool:
        """Read no more. Return whether the connection can end now; else it ends once a whole request is answered."""
        self._stop_timer()
        self.ended = True
        if self.cycle is not None and not (self.cycle.response_complete or self.cycle.more_body):
            self.cycle.keep_alive = False
            return False
        return not self.transport.is_closing()


class Server(uvicorn.Server):
    """A server that answers all it has accepted before it ends."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service = service
        self.failure: Exception | None = None

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen and load; one process of several takes no request from the others before it can answer it."""
        if self.service.flags.workers > 1:
            await self._load()
        if not self.should_exit:
            await super().startup(sockets)
            self.loading = asyncio.create_task(self._load())

    async def _load(self) -> None:
        try:
            if not self.service.ready:
                await self.service.load()
        except Exception as error:
            self.failure, self.should_exit = error, True

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, answer what is accepted, and say at each last answer that the connection ends.

        uvicorn itself closes connections that are between two requests at once, and the next request is lost.
        """
        self.service.draining = True
        began, seconds = time.monotonic(), self.service.flags.drain
        for one in (sockets or []) if self.service.flags.workers == 1 else []:  # others go on to accept from it
            let_no_more_in(one)
        await asyncio.sleep(ACCEPT_S)  # in which all connections that the kernel holds are accepted
        for server in self.servers:
            server.close()
        for one in sockets or []:
            one.close()
        await asyncio.sleep(ACCEPT_S)  # in which those just accepted become connections
        connections: Any = self.server_state.connections
        while (connections or self.server_state.tasks) and not self.force_exit:
            passed = time.monotonic() - began
            if passed > seconds:
                break
            for connection in [*connections] if passed > min(QUIET_S, seconds / 2) else []:
                if connection.idle:
                    connection.transport.close()
            await asyncio.sleep(0.02)
        for task in self.server_state.tasks:
            task.cancel()
        for connection in [*connections]:
            connection.transport.abort()
        await self.lifespan.shutdown()

    @override
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End in order at a signal, at once at a second SIGINT; uvicorn would raise the signal again then."""
        before = {number: signal.signal(number, self.handle_exit) for number in ending_signals()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
