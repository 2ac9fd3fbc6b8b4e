# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import socket
from contextlib import ExitStack, closing

import pytest

from cubbyhole.supervise import listening


def test_all_fronts_share_one_address() -> None:
    sockets = listening.bind("127.0.0.1", 0, 3)
    assert len({sock.getsockname() for sock in sockets}) == 1
    assert len({sock.fileno() for sock in sockets}) == 3
    listening.close(sockets)


def test_nobody_can_connect_before_listen() -> None:
    """A script that waits for the port must not take a server that still loads its model for ready."""
    sockets = listening.bind("127.0.0.1", 0, 2)
    address = sockets[0].getsockname()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    listening.listen(sockets)
    socket.create_connection(address).close()
    listening.close(sockets)


@pytest.mark.parametrize("fronts", [1, 2])
def test_a_taken_port_is_refused_with_what_to_do(fronts: int) -> None:
    """With SO_REUSEPORT a second server of the same user would get every other connection of the first."""
    first = listening.bind("127.0.0.1", 0, fronts)
    port = first[0].getsockname()[1]
    listening.listen(first)
    with pytest.raises(
        OSError, match=rf"Port {port} on 127.0.0.1 is taken .* choose another port"
    ) as caught:
        listening.bind("127.0.0.1", port, 2)
    assert caught.value.errno == errno.EADDRINUSE
    listening.close(first)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(OSError, match=r"Cannot listen on 192\.0\.2\.1 port 0"):
        listening.bind("192.0.2.1", 0, 1)


def test_connections_are_spread_over_the_fronts() -> None:
    sockets = listening.bind("127.0.0.1", 0, 2)
    listening.listen(sockets)
    with ExitStack() as stack:
        for _ in range(64):
            stack.enter_context(closing(socket.create_connection(sockets[0].getsockname())))
        counts = []
        for sock in sockets:
            sock.setblocking(False)
            count = 0
            while True:
                try:
                    stack.enter_context(closing(sock.accept()[0]))
                except BlockingIOError:
                    break
                count += 1
            counts.append(count)
    listening.close(sockets)
    assert sum(counts) == 64
    assert min(counts) >= 8  # by chance below once in 10**10 runs
