# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import multiprocessing
import os
import socket
import struct
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from cubbyhole.channels.base import ChannelSettings
from cubbyhole.channels.framing import Final, encoder
from cubbyhole.channels.giving import Peer
from cubbyhole.channels.ledger import Ledger
from cubbyhole.channels.pipe_framing import PREFIX, ControlLink, PipeEnd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from cubbyhole.channels.framing import Frame


@pytest.fixture
def ends() -> Iterator[tuple[PipeEnd, Connection]]:
    ledger = Ledger.create(ChannelSettings(arena_bytes=32 << 20), shown=False)
    theirs, mine = multiprocessing.Pipe()
    control, other = socket.socketpair()
    link = ControlLink(control, ledger, 0)
    sock = socket.socket(fileno=os.dup(mine.fileno()))
    sock.setblocking(False)
    mine.close()
    end = PipeEnd(sock, Peer(link, 0, 1, 0), 1, ledger)
    with closing(theirs), closing(control), closing(other):
        yield end, theirs
        end.close()
    ledger.close()


@pytest.mark.parametrize("size", [0, 1, 16_384, 16_385, 65_536, 1_000_000, 9_000_000])
def test_a_connection_understands_what_the_front_sends(
    ends: tuple[PipeEnd, Connection], size: int
) -> None:
    end, connection = ends
    body = os.urandom(size)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(connection.recv_bytes()))
    reader.start()
    done = end.send_bytes(memoryview(body))
    while not done:
        done = end.flush()
    reader.join(10.0)
    assert got == [body]


@pytest.mark.parametrize("size", [0, 1, 16_384, 16_385, 65_536, 1_000_000, 9_000_000])
def test_the_front_understands_what_a_connection_sends(
    ends: tuple[PipeEnd, Connection], size: int
) -> None:
    end, connection = ends
    body = os.urandom(size)
    head = encoder()(Final(3, 201, b"meta", 4))
    prefix = PREFIX.pack(len(head), size) + head

    def write() -> None:
        if size <= 16_384:
            connection.send_bytes(prefix + body)
        else:
            connection.send_bytes(prefix)
            connection.send_bytes(body)

    writer = threading.Thread(target=write)
    writer.start()
    frames: list[Frame] = []
    while not frames and not end.closed:
        frames += end.receive()
    writer.join(10.0)
    assert [(message, bytes(got)) for message, got in frames] == [(Final(3, 201, b"meta", 4), body)]


@pytest.mark.parametrize("nonsense", [struct.pack("!i", -7), struct.pack("!iQ", -1, 1 << 60)])
def test_a_length_that_cannot_be_ends_the_pipe(
    ends: tuple[PipeEnd, Connection], nonsense: bytes
) -> None:
    end, connection = ends
    os.write(connection.fileno(), nonsense)
    assert end.receive() == []
    assert end.closed


def test_half_a_message_of_a_dead_worker_is_no_message(ends: tuple[PipeEnd, Connection]) -> None:
    end, connection = ends
    os.write(connection.fileno(), struct.pack("!i", 5000) + bytes(100))
    assert end.receive() == []
    connection.close()
    assert end.receive() == []
    assert end.closed
