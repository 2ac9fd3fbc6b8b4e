# SPDX-License-Identifier: Apache-2.0
"""The sockets that fronts accept on: bound by the supervisor, before anything is started, and kept by it.

Flow:  wiring.py -> bind() -> fronts inherit one socket each;  wiring.py -> listen() once a worker is ready
Owns:  the sockets. A front that dies leaves its socket, with the connections that wait in it, to its successor.

One socket for each front (SO_REUSEPORT), not one for all: measured with 2 fronts and bursts of 32 connections, the busier
front got 55 % of them (at worst 59 %) against 95 % (100 %) of a shared socket, because the event loop that wakes first
accepts all that wait. Only Linux spreads connections so; elsewhere the fronts share one socket.
"""

from __future__ import annotations

import errno
import socket
import sys

BACKLOG = 2048  # connections that wait while all fronts are busy; the kernel cuts it to net.core.somaxconn


def bind(host: str, port: int, count: int) -> list[socket.socket]:
    """Bind one socket for each front, all to the same address; the kernel spreads connections over them.

    Args:
        host: An address or a name; one with ":" is IPv6.
        port: 0 takes a free one, see `getsockname` of any of the sockets.
        count: Fronts.

    Raises:
        OSError: the port is taken or not allowed; the text says what to do.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # SO_REUSEPORT would let a second server of the same user slip in beside the first and take every other connection,
    # so ask without it whether the port is free.
    with _socket(family) as probe:
        _bind(probe, host, port)
        port = probe.getsockname()[1]
    sockets: list[socket.socket] = []
    try:
        spreads = sys.platform == "linux"
        for number in range(count):
            if number and not spreads:
                sockets.append(sockets[0].dup())
                continue
            sock = _socket(family)
            sockets.append(sock)
            if count > 1 and spreads:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            _bind(sock, host, port)
    except BaseException:
        close(sockets)
        raise
    return sockets


def listen(sockets: list[socket.socket]) -> None:
    """From now on connections are taken, and wait until a front accepts them."""
    for sock in sockets:
        sock.listen(BACKLOG)


def close(sockets: list[socket.socket]) -> None:
    """Close them in this process; safe to repeat."""
    for sock in sockets:
        sock.close()


def _socket(family: socket.AddressFamily) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(
        socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
    )  # connections in TIME_WAIT do not matter
    return sock


def _bind(sock: socket.socket, host: str, port: int) -> None:
    try:
        sock.bind((host, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            text = (
                f"Port {port} on {host} is taken by another process (`ss -ltnp 'sport = :{port}'` shows it). "
                "Stop that process, or choose another port with run(port=...) or --port."
            )
        elif error.errno == errno.EACCES:
            text = f"Port {port} on {host} is not allowed for this user. Choose one from 1024 to 65535."
        else:
            text = f"Cannot listen on {host} port {port}: {error.strerror}. Choose an address of this machine."
        raise OSError(error.errno, text) from error
