# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import socket
import struct
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from cubbyhole.channels.framing import Final, Link, Nothing, Want, encoder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cubbyhole.channels.framing import Frame

LIMIT = 8 << 20


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    with closing(left), closing(right):
        yield left, right


def link(sock: socket.socket) -> Link:
    return Link(sock, LIMIT, memoryview(bytearray(8)).cast("Q"), 0)


def receive_all(receiver: Link, sender: Link, count: int) -> list[Frame]:
    frames: list[Frame] = []
    for _ in range(10_000):
        sender.flush()
        frames += receiver.receive()
        if len(frames) >= count or receiver.closed:
            break
    return frames


def frame(body: bytes, number: int = 7) -> bytes:
    head = encoder()(Final(number, 200, b"", 1))
    return struct.pack("<IQ", len(head), len(body)) + head + body


def test_a_frame_that_comes_byte_by_byte_is_one_frame(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    receiver = link(pair[1])
    frames: list[Frame] = []
    for byte in frame(b"hello"):
        assert frames == []
        pair[0].send(bytes([byte]))
        frames += receiver.receive()
    assert [bytes(body) for _, body in frames] == [b"hello"]


def test_many_frames_in_one_piece_are_many_frames(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    pair[0].send(b"".join(frame(b"%d" % n, n) for n in range(50)))
    frames = link(pair[1]).receive()
    assert [bytes(body) for _, body in frames] == [b"%d" % n for n in range(50)]


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 262_144, 300_000, LIMIT])
def test_bodies_of_any_size_pass_whole_between_small_frames(
    pair: tuple[socket.socket, socket.socket], size: int
) -> None:
    sender, receiver = link(pair[0]), link(pair[1])
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    sender.send(Want(1, stay=False))
    sender.send(Final(1, 200, b"meta", 5), body)
    sender.send(Nothing())
    frames = receive_all(receiver, sender, 3)
    assert [type(message) for message, _ in frames] == [Want, Final, Nothing]
    assert bytes(frames[1][1]) == body


def test_a_head_larger_than_the_buffer_passes(pair: tuple[socket.socket, socket.socket]) -> None:
    sender, receiver = link(pair[0]), link(pair[1])
    sender.send(Final(1, 200, bytes(700_000), 5), b"body")
    (message, body) = receive_all(receiver, sender, 1)[0]
    assert isinstance(message, Final)
    assert (len(message.meta), bytes(body)) == (700_000, b"body")


def test_what_does_not_fit_the_socket_is_kept_and_in_order(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    sender, receiver = link(pair[0]), link(pair[1])
    out = [sender.send(Final(n, 200, b"", 0), bytes(100_000)) for n in range(20)]
    assert not all(out)
    frames = receive_all(receiver, sender, 20)
    assert [message.id for message, _ in frames if isinstance(message, Final)] == list(range(20))


@pytest.mark.parametrize(
    "nonsense",
    [
        struct.pack("<IQ", 5, LIMIT + 1),  # a body over the limit
        struct.pack("<IQ", 1 << 31, 0),  # a head over the limit
        struct.pack("<IQ", 3, 0) + b"\xc1\xc1\xc1",  # no MessagePack
        struct.pack("<IQ", 2, 0) + b"\x91\x63",  # a message of an unknown kind
    ],
)
def test_nonsense_ends_the_connection_and_raises_nothing(
    pair: tuple[socket.socket, socket.socket], nonsense: bytes
) -> None:
    receiver = link(pair[1])
    pair[0].send(nonsense)
    assert receiver.receive() == []
    assert receiver.closed


def test_the_end_of_the_stream_is_seen_after_the_last_frame(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    receiver = link(pair[1])
    pair[0].send(frame(b"last"))
    pair[0].close()
    frames = receiver.receive() + receiver.receive()
    assert [bytes(body) for _, body in frames] == [b"last"]
    assert receiver.closed


def test_sending_to_nobody_raises_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    sender = link(pair[0])
    pair[1].close()
    for _ in range(3):
        sender.send(Final(1, 200, b"", 0), bytes(1000))
    assert sender.closed
