"""Whether a server answers: within one deadline for all questions, also if it is slow or silent."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from src.resources import network
from src.resources.network import reachable


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second, none of it gone, and no proxy."""
    monkeypatch.setattr(network, "PATIENCE", 0.5)
    monkeypatch.setattr(network, "waited", 0.0)
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # it keeps the proxies that there were
    reachable.cache_clear()


@contextlib.contextmanager
def server(*answer: bytes) -> Iterator[str]:
    """Yield the address of a server that gives each connection these parts, one each 0.1 s; without any, nothing."""
    ended = threading.Event()
    threads: list[threading.Thread] = []

    def begin(work: Callable[..., None], *args: Any) -> None:
        threads.append(threading.Thread(target=work, args=args, daemon=True))
        threads[-1].start()

    def serve() -> None:
        with contextlib.suppress(OSError):  # it is shut down
            while True:
                begin(give, listening.accept()[0])

    def give(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):  # the other side has given up
            for part in answer:
                connection.sendall(part)
                if ended.wait(0.1):
                    return
            if not answer:
                ended.wait()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        begin(serve)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        ended.set()
        listening.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


def test_a_server_that_answers_be_it_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "PATIENCE", 30.0)
    with server(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n") as url:
        assert reachable(url)
    reachable.cache_clear()
    assert not reachable(url), "it has gone"


@pytest.mark.parametrize(
    "answer",
    [[bytes([byte]) for byte in b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100], [], [b"\x00\x01 no HTTP\r\n\r\n"]],
    ids=["byte by byte, each before a timeout", "nothing", "nonsense"],
)
def test_a_server_is_waited_for_no_longer_than_the_deadline(answer: list[bytes]) -> None:
    started = time.monotonic()
    with server(*answer) as url:
        assert not any(reachable(f"{url}/{number}") for number in range(5)), "five questions, one deadline"
        assert network.waited <= 1
        assert time.monotonic() - started < 5


def test_after_the_deadline_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "waited", network.PATIENCE)
    monkeypatch.setattr(network, "_answers", lambda url: pytest.fail("asked"))
    assert not reachable("http://127.0.0.1:9")
