# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from contextlib import closing

import pytest

from cubbyhole.channels.base import ChannelSettings
from cubbyhole.channels.framing import Hello, Want, encoder
from cubbyhole.core.entries import RequestEntry

zmq = pytest.importorskip("zmq")


def test_a_stranger_who_finds_the_address_is_given_nothing() -> None:
    from cubbyhole.channels.zmq import ZmqChannel

    encode = encoder()
    with (
        closing(ZmqChannel.create(ChannelSettings())) as channel,
        closing(channel.front(0)) as port,
    ):
        context = zmq.Context(1)
        stranger = context.socket(zmq.DEALER)
        stranger.setsockopt(zmq.LINGER, 0)
        stranger.connect(channel._address(0))
        stranger.send_multipart([encode(Hello(b"guess" * 3, 0, 1, 0)), b""])
        stranger.send_multipart([encode(Want(5, stay=False)), b""])
        stranger.send_multipart([b"\xc1 nonsense"])
        stranger.send_multipart([b"", b"", b""])
        port.submit(RequestEntry(1, 0, b"secret"))
        worker = channel.worker(0, 0)
        answered = 0
        for _ in range(200):
            port.collect()
            answered += stranger.poll(1)
        assert answered == 0
        assert not port.peers or list(port.peers) == [0]
        worker.close()
        stranger.close()
        context.term()
