"""The socket that the server listens at."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import socket
import struct

from src.configs.errors import InputError

BACKLOG = 2048
"""Connections that the kernel holds until they are accepted."""
ATTACH_FILTER, REFUSE = 26, struct.pack("HBBI", 6, 0, 0, 0)
"""Linux: an option of sockets, and a filter of packets that lets nothing through ("return 0")."""


def open_listener(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        InputError: the port is taken or not allowed, or the address is not one of this machine.
    """
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, number)
    except (OSError, UnicodeError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise InputError(f"--host {host}: no address ({why}). --host 127.0.0.1?") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if isinstance(error, PermissionError):
            raise InputError(f"--port {port}: not allowed; ports below 1024 are root's. --port 8000?") from None
        if error.errno == errno.EADDRINUSE:
            raise InputError(f"--port {port}: taken by another program. Another one, or 0 for a free one.") from None
        raise InputError(f"--host {host}: {error.strerror or error}. It is no address of this machine?") from None
    return listener


def let_no_more_in(listener: socket.socket) -> None:
    """Let the kernel ignore further connections, while those it holds can still be accepted.

    Clients that it ignores try again after a second, and are refused then. Without this, connections that come between
    the last `accept` and `close` would be reset; on other systems than Linux they still are.
    """
    instructions = ctypes.create_string_buffer(REFUSE)
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(instructions)))
