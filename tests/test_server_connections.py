"""Connections of the server: clients that are slow, that do not read, or that have gone."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import uvicorn
from uvicorn.server import ServerState

from src.deploy.server import connections
from src.deploy.server.connections import GONE, Connection, Server
from src.deploy.server.flags import ServeFlags
from src.deploy.server.service import Service

Application = Callable[[Any, Any, Any], Awaitable[None]]
Opened = tuple[set[Any], asyncio.StreamReader, asyncio.StreamWriter]
GET = b"GET /%b HTTP/1.1\r\nhost: x\r\n%b\r\n"


def config_of(app: Application, keep_alive: float = 60) -> uvicorn.Config:
    how: Any = {"loop": "asyncio", "lifespan": "off", "log_config": None, "timeout_keep_alive": keep_alive}
    return uvicorn.Config(app, http=Connection, **how)


@asynccontextmanager
async def opened(app: Application, keep_alive: float = 60) -> AsyncIterator[Opened]:
    """Yield the connections of a server, and the reader and the writer of one."""
    config, state = config_of(app, keep_alive), ServerState()
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: Connection(config, state, {}), "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), limit=2**16)
        try:
            yield state.connections, reader, writer
        finally:
            writer.close()


async def answer(send: Any, body: bytes) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.mark.parametrize(
    ("request_", "bytes_"),
    [
        (GET % (b"", b"connection: close\r\n"), 2**25),
        (GET % (b"", b""), 2**25),
        (GET % (b"", b"") * 3, 2**24),
        (b"GET / HTTP/1.0\r\n\r\n", 2**25),
    ],
    ids=["close", "keep-alive", "pipelined", "HTTP/1.0"],
)
def test_an_answer_that_is_never_read_is_not_held_for_ever(request_: bytes, bytes_: int) -> None:
    async def app(_: Any, __: Any, send: Any) -> None:
        await answer(send, bytes(bytes_))

    async def check() -> None:
        async with opened(app, keep_alive=0.2) as (there, _, writer):
            writer.write(request_)
            await asyncio.sleep(0.1)
            assert len(there) == 1
            await asyncio.sleep(0.5)
            assert not there

    asyncio.run(check())


@pytest.mark.parametrize(
    "second", [b"GET /2 HTTP/1.1\r\nhost: ", b"GET /2 HTTP/1.1\r\na: " + b"x" * 2000, b"\0no request\r\n\r\n"]
)
def test_a_request_that_is_not_whole_does_not_cost_the_one_before_it_its_answer(
    second: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is too slow (408), has too long headers (431), or is malformed (400)."""
    monkeypatch.setattr(Connection, "seconds", 0.1)
    monkeypatch.setattr(connections, "MAX_HEAD", 1000)

    async def app(_: Any, __: Any, send: Any) -> None:
        await asyncio.sleep(0.4)
        await answer(send, b"the first")

    async def check() -> bytes:
        async with opened(app) as (_, reader, writer):
            writer.write(GET % (b"1", b"") + second[:8])
            await asyncio.sleep(0.02)
            writer.write(second[8:20])
            await asyncio.sleep(0.02)
            writer.write(second[20:])
            return await reader.read()

    found = asyncio.run(check())
    assert found.startswith(b"HTTP/1.1 200 OK")
    assert found.endswith(b"connection: close\r\n\r\nthe first")


def test_a_body_that_is_malformed_is_refused_at_once() -> None:
    async def app(_: Any, receive: Any, __: Any) -> None:
        while (await receive())["type"] == "http.request":
            pass

    async def check() -> bytes:
        async with opened(app) as (_, reader, writer):
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nno length\r\n")
            return await asyncio.wait_for(reader.read(), 5)

    assert asyncio.run(check()).startswith(b"HTTP/1.1 400")


def test_a_client_that_goes_away_is_noticed_while_its_request_is_answered() -> None:
    found: list[bool] = []

    async def app(scope: Any, _: Any, __: Any) -> None:
        found.append(scope[GONE]())
        await asyncio.sleep(0.2)
        found.append(scope[GONE]())

    async def check() -> None:
        async with opened(app) as (_, __, writer):
            writer.write(GET % (b"", b""))
            await asyncio.sleep(0.1)
            writer.close()
            await asyncio.sleep(0.2)

    asyncio.run(check())
    assert found == [False, True]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_model_that_fails_to_load_ends_the_server_whatever_the_error(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: Service) -> None:
        raise KeyError("prob")

    async def app(_: Any, __: Any, ___: Any) -> None: ...

    monkeypatch.setattr(Service, "load", fail)
    server = Server(config_of(app), Service(ServeFlags(export=Path("x"), workers=workers)))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        asyncio.run(asyncio.wait_for(server.serve([listener]), 5))
    assert isinstance(server.failure, KeyError)


def test_one_process_of_several_answers_all_that_it_has_accepted_and_leaves_the_rest_to_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def load(service: Service) -> None:
        service.loaded = cast(Any, "a model")

    async def app(_: Any, __: Any, send: Any) -> None:
        await answer(send, b"ok")

    monkeypatch.setattr(Service, "load", load)
    found: Counter[str] = Counter()

    def ask_until_nobody_accepts(address: tuple[str, int]) -> None:
        while True:
            with socket.create_connection(address) as connection:
                connection.settimeout(0.5)
                try:
                    connection.sendall(GET[:-2] % (b"", b"connection: close\r\n"))
                    connection.sendall(b"\r\n")
                    found["answered" if connection.recv(1000).startswith(b"HTTP/1.1 200") else "lost"] += 1
                except TimeoutError:
                    found["left to others"] += 1
                    break
                except OSError:
                    found["lost"] += 1

    for _ in range(3):
        server = Server(config_of(app), Service(ServeFlags(export=Path("x"), workers=2, drain=3)))
        with socket.create_server(("127.0.0.1", 0), backlog=100) as shared:
            clients = [
                threading.Thread(target=ask_until_nobody_accepts, args=(shared.getsockname(),)) for _ in range(4)
            ]
            timers = [threading.Timer(0.1, client.start) for client in clients]
            timers += [threading.Timer(0.2, server.handle_exit, (signal.SIGTERM, None))]
            for timer in timers:
                timer.start()
            asyncio.run(server.serve([shared.dup()]))
            for client in clients:
                client.join()
    assert found["answered"] > 12
    assert (found["lost"], found["left to others"]) == (0, 12)
